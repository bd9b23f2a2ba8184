package org.edgetfm.demo

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.os.Bundle
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.EditText
import android.widget.ImageView
import android.widget.ProgressBar
import android.widget.Spinner
import android.widget.TableLayout
import android.widget.TableRow
import android.widget.TextView
import org.edgetfm.core.Answer
import org.edgetfm.core.Cancellation
import org.edgetfm.core.Given
import org.edgetfm.core.Origin
import org.edgetfm.core.Outcome
import org.edgetfm.core.Sense

/** The one screen: choose a bundle, ask it, check it, measure it, share what was found. */
class MainActivity : Activity() {
    private lateinit var desk: Desk
    private lateinit var words: Words
    private var listed = -1
    private var listedProviders = -1

    private fun <T : View> view(id: Int): T = findViewById(id)

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        words = Words(this)
        desk = lastNonConfigurationInstance as? Desk ?: Desk(applicationContext)
        listen()
        desk.screen = ::draw
        draw()
    }

    // AndroidX has view models for this; the app has no dependency but the runtime.
    override fun onRetainNonConfigurationInstance(): Any = desk

    /** Nobody is heard behind a screen that is gone. */
    override fun onStop() {
        if (!isChangingConfigurations && desk.shown.recording != null) desk.stop()
        super.onStop()
    }

    override fun onDestroy() {
        desk.screen = null
        if (isFinishing) desk.close()
        super.onDestroy()
    }

    private fun listen() {
        view<Button>(R.id.choose).setOnClickListener { startActivityForResult(Intent(Intent.ACTION_OPEN_DOCUMENT_TREE), FOLDER) }
        view<Button>(R.id.run).setOnClickListener { run() }
        view<Button>(R.id.stop).setOnClickListener { desk.stop() }
        view<Button>(R.id.check).setOnClickListener { check() }
        view<Button>(R.id.measure).setOnClickListener { measure() }
        view<Button>(R.id.share).setOnClickListener { share() }
        view<Spinner>(R.id.providers).onItemSelectedListener = Selected { desk.shown.provider = it }
        view<Spinner>(R.id.bundles).onItemSelectedListener = Selected { if (it != desk.shown.chosen) open(it) }
    }

    private fun names(of: List<String>): ArrayAdapter<String> {
        val adapter = ArrayAdapter<String>(this, android.R.layout.simple_spinner_item, of)
        adapter.setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item)
        return adapter
    }

    private fun open(number: Int) {
        val shown = desk.shown
        val origin = shown.origins[number]
        desk.stop()
        shown.chosen = number
        shown.bundle = null
        shown.sense = null
        shown.picture = null
        shown.parity = null
        shown.answer = ""
        shown.rows = emptyList()
        work(getString(R.string.opening, origin.name), { cancellation ->
            desk.model.open(origin, cancellation) { done, of -> desk.progress((100 * done / maxOf(1L, of)).toInt(), 100) }
        }) { bundle ->
            this.bundle = bundle
            sense = desk.model.sense
            message = words.ready(origin.name, bundle)
        }
    }

    private fun run() {
        when (desk.shown.sense) {
            Sense.TEXT -> askText()
            Sense.PICTURE -> startActivityForResult(Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("image/*"), PICTURE)
            Sense.SOUND -> when {
                desk.shown.recording != null -> desk.shown.recording?.cancel()
                checkSelfPermission(Manifest.permission.RECORD_AUDIO) == PackageManager.PERMISSION_GRANTED -> record()
                else -> requestPermissions(arrayOf(Manifest.permission.RECORD_AUDIO), MICROPHONE)
            }
            null -> open(desk.shown.chosen) // its opening was stopped, or failed
        }
    }

    /** Asks the bundle; what is given is made by the worker, for it may take long or fail. */
    private fun ask(begun: String = "", given: (Cancellation) -> Given) {
        val provider = desk.provider
        var milliseconds = 0.0
        work(
            begun,
            { cancellation ->
                var began = 0L
                desk.model.ask({ given(cancellation).also { began = System.nanoTime() } }, provider, cancellation) { piece -> desk.show { answer += piece } }
                    .also { milliseconds = (System.nanoTime() - began) / 1e6 }
            },
        ) { (found, fallback) ->
            if (found !is Answer.Text || found.generated == null) answer = words.answer(found)
            message = listOfNotNull(words.took(found, milliseconds, provider), fallback).joinToString("\n")
        }
    }

    private fun askText() {
        val text = view<EditText>(R.id.prompt).text.toString()
        desk.shown.answer = if (desk.shown.bundle?.manifest?.task == "text-generation") text else ""
        ask { Given.OfText(text) }
    }

    private fun record() {
        val enough = Cancellation()
        desk.shown.answer = ""
        desk.shown.recording = enough
        ask(getString(R.string.recording, 0, Recorder.MOST_SECONDS)) { cancellation ->
            val sound = Recorder.record(enough, cancellation) { second ->
                desk.show { message = getString(R.string.recording, second, Recorder.MOST_SECONDS) }
            }
            desk.show { recording = null }
            Given.OfSound(sound)
        }
    }

    private fun check() {
        val provider = desk.provider
        work("", { cancellation -> desk.model.check(provider, cancellation, desk::progress) }) { replayed ->
            parity = words.parity(replayed)
            parityHeld = replayed.passed
        }
    }

    private fun measure() = work("", { cancellation ->
        desk.model.measure(cancellation = cancellation) { provider, done, of ->
            desk.show {
                message = provider.title
                this.done = done
                this.of = of
            }
        }
    }) { found ->
        rows = found
        message = ""
    }

    private fun share() = work("", { desk.model.report() }) { report ->
        val intent = Intent(Intent.ACTION_SEND).setType("text/plain").putExtra(Intent.EXTRA_TEXT, report)
        startActivity(Intent.createChooser(intent, getString(R.string.share)))
    }

    private fun <T> work(message: String, job: (Cancellation) -> Outcome<T>, done: Shown.(T) -> Unit) =
        desk.work(message, getString(R.string.stopped), job, done)

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        super.onActivityResult(requestCode, resultCode, data)
        val uri = data?.data ?: return
        if (resultCode != RESULT_OK) return
        if (requestCode == FOLDER) {
            desk.shown.origins += PickedOrigin(contentResolver, uri)
            draw()
            view<Spinner>(R.id.bundles).setSelection(desk.shown.origins.size - 1)
        } else if (requestCode == PICTURE) {
            ask {
                val bitmap = Pictures.read(contentResolver, uri)
                desk.show { picture = bitmap }
                Given.OfPicture(Pictures.picture(bitmap))
            }
        }
    }

    override fun onRequestPermissionsResult(requestCode: Int, permissions: Array<String>, grantResults: IntArray) {
        if (grantResults.firstOrNull() == PackageManager.PERMISSION_GRANTED) record()
        else desk.show { message = getString(R.string.no_microphone) }
    }

    private fun draw() {
        val shown = desk.shown
        if (listed != shown.origins.size) {
            listed = shown.origins.size
            val bundles = view<Spinner>(R.id.bundles)
            bundles.adapter = names(shown.origins.map(Origin::name))
            if (shown.chosen >= 0) bundles.setSelection(shown.chosen)
        }
        if (listedProviders != shown.providers.size) {
            listedProviders = shown.providers.size
            val providers = view<Spinner>(R.id.providers)
            providers.adapter = names(shown.providers.map { it.title })
            providers.setSelection(shown.provider)
        }
        val ready = shown.bundle != null && !shown.busy
        for (id in listOf(R.id.check, R.id.measure, R.id.share)) view<Button>(id).isEnabled = ready
        for (id in listOf(R.id.bundles, R.id.providers, R.id.choose)) view<View>(id).isEnabled = !shown.busy
        val run = view<Button>(R.id.run)
        val again = shown.bundle == null && shown.chosen >= 0 && !shown.busy
        run.isEnabled = ready || again || shown.recording != null
        run.setText(
            when (shown.sense) {
                null -> if (again) R.string.open_again else R.string.run
                Sense.PICTURE -> R.string.pick_picture
                Sense.SOUND -> if (shown.recording != null) R.string.record_stop else R.string.record
                else -> R.string.run
            },
        )
        visible(R.id.prompt, shown.sense == Sense.TEXT)
        visible(R.id.picture, shown.picture != null)
        shown.picture?.let { view<ImageView>(R.id.picture).setImageBitmap(it) }
        visible(R.id.working, shown.busy)
        val progress = view<ProgressBar>(R.id.progress)
        progress.isIndeterminate = shown.of == 0
        progress.max = shown.of
        progress.progress = shown.done
        view<TextView>(R.id.message).text = shown.message
        view<TextView>(R.id.answer).text = shown.answer
        badge(shown)
        table(shown)
    }

    private fun badge(shown: Shown) {
        visible(R.id.parity, shown.parity != null)
        val badge = view<TextView>(R.id.parity)
        badge.text = shown.parity.orEmpty()
        badge.setTextColor(getColor(if (shown.parityHeld) R.color.held else R.color.missed))
    }

    private fun table(shown: Shown) {
        val table = view<TableLayout>(R.id.table)
        table.removeAllViews()
        if (shown.rows.isEmpty()) return
        for (cells in listOf(words.heads()) + shown.rows.map(words::cells)) {
            val row = TableRow(this)
            cells.forEach { cell -> row.addView(text(cell)) }
            table.addView(row)
        }
        shown.rows.filter { it.note != null }.forEach { table.addView(text("${it.provider.title}: ${it.note}")) }
    }

    private fun text(of: String): TextView {
        val view = TextView(this)
        view.text = of
        view.setPadding(4, 4, 4, 4)
        return view
    }

    private fun visible(id: Int, shown: Boolean) {
        view<View>(id).visibility = if (shown) View.VISIBLE else View.GONE
    }

    private class Selected(private val chosen: (Int) -> Unit) : AdapterView.OnItemSelectedListener {
        override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) = chosen(position)

        override fun onNothingSelected(parent: AdapterView<*>?) = Unit
    }

    private companion object {
        const val FOLDER = 1
        const val PICTURE = 2
        const val MICROPHONE = 3
    }
}
