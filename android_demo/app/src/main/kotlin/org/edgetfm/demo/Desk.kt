package org.edgetfm.demo

import android.content.Context
import android.graphics.Bitmap
import android.os.Build
import android.os.Handler
import android.os.Looper
import java.io.File
import java.util.concurrent.Executors
import org.edgetfm.core.Bundle
import org.edgetfm.core.Cancellation
import org.edgetfm.core.EdgeSession
import org.edgetfm.core.Origin
import org.edgetfm.core.Outcome
import org.edgetfm.core.Provider
import org.edgetfm.core.Row
import org.edgetfm.core.ScreenModel
import org.edgetfm.core.Sense
import org.edgetfm.core.Store

/** What the screen shows now; only the main thread reads and writes it. */
class Shown {
    var origins: List<Origin> = emptyList()
    var chosen = -1
    var providers: List<Provider> = listOf(Provider.CPU)
    var provider = 0
    var bundle: Bundle? = null
    var sense: Sense? = null
    var picture: Bitmap? = null
    var message = ""
    var answer = ""
    var parity: String? = null
    var parityHeld = false
    var rows: List<Row> = emptyList()
    var busy = false

    /** While the microphone is heard: what ends it. */
    var recording: Cancellation? = null
    var done = 0
    var of = 0
}

/**
 * What outlives a screen that is turned: the model, the thread that works for it, and what is shown.
 *
 * Work is done one after the other and never on the main thread; all of it can be stopped.
 */
class Desk(context: Context) {
    private val told = Flavor.prepare(context)
    private val main = Handler(Looper.getMainLooper())
    private val worker = Executors.newSingleThreadExecutor()
    private var cancellation = Cancellation()
    val model = ScreenModel(Store(File(context.filesDir, "bundles")), context.cacheDir, machine())
    val shown = Shown()

    /** Draws what is shown; null while no screen is there. */
    var screen: (() -> Unit)? = null

    val provider: Provider get() = shown.providers[shown.provider]

    init {
        val shipped = AssetOrigin.all(context.assets)
        shown.origins = shipped
        shown.message = listOfNotNull(told, if (shown.origins.isEmpty()) context.getString(R.string.no_bundles) else null).joinToString("\n")
        worker.execute { started(model.start(shipped)) }
    }

    /** Shows where bundles may run: to know it, ONNX Runtime was loaded. */
    private fun started(found: Outcome<List<Provider>>) = show {
        when (found) {
            is Outcome.Done -> providers = found.value
            is Outcome.Failed -> message = found.message
            is Outcome.Stopped -> Unit
        }
    }

    /** A change to what is shown, from any thread. */
    fun show(change: Shown.() -> Unit) {
        main.post {
            shown.change()
            screen?.invoke()
        }
    }

    fun progress(done: Int, of: Int) = show {
        this.done = done
        this.of = of
    }

    /** Work for the worker; `then` is called on the main thread with what it made. */
    fun <T> work(message: String, stopped: String, job: (Cancellation) -> Outcome<T>, then: Shown.(T) -> Unit) {
        val asked = Cancellation()
        cancellation = asked
        shown.busy = true
        shown.of = 0
        shown.message = message
        screen?.invoke()
        worker.execute {
            val outcome = job(asked)
            show {
                busy = false
                recording = null
                when (outcome) {
                    is Outcome.Done -> then(outcome.value)
                    is Outcome.Failed -> this.message = outcome.message
                    is Outcome.Stopped -> this.message = stopped
                }
            }
        }
    }

    fun stop() = cancellation.cancel()

    fun close() {
        stop()
        worker.execute { model.close() }
        worker.shutdown()
    }

    private fun machine(): Map<String, Any?> = linkedMapOf(
        "device" to "${Build.MANUFACTURER} ${Build.MODEL}",
        "cpu" to Build.HARDWARE,
        "cpus" to Runtime.getRuntime().availableProcessors(),
        "architecture" to Build.SUPPORTED_ABIS.firstOrNull(),
        "system" to "Android ${Build.VERSION.RELEASE}",
        "onnxruntime" to EdgeSession.RUNTIME,
    )
}
