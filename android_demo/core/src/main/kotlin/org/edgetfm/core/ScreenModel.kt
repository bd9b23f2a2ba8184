package org.edgetfm.core

import java.io.File
import java.io.IOException

/** How a wish ended: with what was asked for, with a message that can be shown, or stopped. */
sealed class Outcome<out T> {
    data class Done<out T>(val value: T) : Outcome<T>()

    data class Failed(val message: String) : Outcome<Nothing>()

    object Stopped : Outcome<Nothing>()
}

/** What was answered, and what of the graph did not run where it was asked to: null if all did. */
data class Answered(val answer: Answer, val fallback: String?)

/** A row of the table of providers: what was measured, or why it was not. */
data class Row(val provider: Provider, val result: Map<String, Any?>?, val note: String?) {
    val latency: Map<*, *>? get() = result?.get("latency_ms") as? Map<*, *>
}

/**
 * All that the screen does, without the screen: one bundle at a time, and never an exception.
 *
 * It is used by one thread at a time, which is not the one that draws.
 */
class ScreenModel(
    private val store: Store,
    private val scratch: File,
    private val machine: Map<String, Any?>,
    among: List<Provider>? = null,
) : AutoCloseable {
    /** Where it may run: what this library can, the plain CPU first. Whoever asks first loads the library. */
    val providers: List<Provider> by lazy { among ?: Provider.entries.filter { it.available } }
    var bundle: Bundle? = null
        private set
    private var task: Task? = null
    private var runsOn: Provider? = null
    private var asked: Map<String, Any?>? = null
    private var parity: Map<String, Any?>? = null
    private var rows: List<Row> = emptyList()
    private val placements = HashMap<Provider, Placement>()

    /** What the bundle takes, null before one is open. */
    val sense: Sense? get() = bundle?.let { Task.sense(it.manifest.task) }

    /** Loads the library and tidies the store: what `shipped` does not hold any more is taken away. */
    fun start(shipped: List<Origin>): Outcome<List<Provider>> = outcome {
        store.tidy(shipped)
        providers
    }

    fun open(
        origin: Origin,
        cancellation: Cancellation = Cancellation(),
        progress: (done: Long, of: Long) -> Unit = { _, _ -> },
    ): Outcome<Bundle> = outcome {
        forget()
        val taken = store.take(origin, cancellation, progress)
        Task.sense(taken.manifest.task)
        taken.also { bundle = it }
    }

    /** The answer of the open bundle; what it writes is told piece by piece. Making `given` may fail, too. */
    fun ask(given: () -> Given, provider: Provider, cancellation: Cancellation = Cancellation(), listener: (String) -> Unit = {}): Outcome<Answered> = outcome {
        opened()
        val taken = given()
        val began = System.nanoTime()
        val task = ready(provider)
        val answer = task.run(taken, cancellation, listener)
        val ms = (System.nanoTime() - began) / 1e6
        val fallback = fallback(provider)
        asked = mapOf("provider" to provider.word, "fallback" to fallback, "ms" to ms, "answer" to told(answer))
        Answered(answer, fallback)
    }

    /** Whether this device answers the bundle's own vectors as the computer did that made it. */
    fun check(provider: Provider, cancellation: Cancellation = Cancellation(), progress: (Int, Int) -> Unit = { _, _ -> }): Outcome<Replayed> = outcome {
        Replay.run(opened(), provider, cancellation = cancellation, progress = progress).copy(fallback = fallback(provider)).also {
            parity = mapOf(
                "provider" to provider.word, "fallback" to it.fallback, "cases" to it.cases, "passed" to it.passed, "missed" to it.missed,
                "measures" to it.measures.mapValues { (_, found) -> found.toJson() },
            )
        }
    }

    /** A row a provider; one that cannot run the bundle says why, and the others go on. */
    fun measure(runs: Int = 50, cancellation: Cancellation = Cancellation(), progress: (Provider, Int, Int) -> Unit = { _, _, _ -> }): Outcome<List<Row>> = outcome {
        val held = opened()
        rows = providers.map { provider ->
            val bench = Bench(held, provider, runs = runs, cancellation = cancellation) { done, of -> progress(provider, done, of) }
            when (val found = outcome { bench.run(scratch, machine, placements[provider]) }) {
                is Outcome.Done -> {
                    placements[provider] = found.value.placement
                    Row(provider, found.value.result, found.value.placement.fallback)
                }
                is Outcome.Failed -> Row(provider, null, found.message)
                is Outcome.Stopped -> throw Cancelled()
            }
        }
        rows
    }

    /** Everything that was found about the open bundle, as JSON to share. */
    fun report(): Outcome<String> = outcome {
        val manifest = opened().manifest
        Json.write(
            linkedMapOf(
                "bundle" to linkedMapOf("task" to manifest.task, "family" to manifest.family, "precision" to manifest.precision),
                "machine" to machine,
                "asked" to asked,
                "parity" to parity,
                "bench" to rows.map { linkedMapOf("provider" to it.provider.word, "note" to it.note, "result" to it.result) },
            ),
        )
    }

    override fun close() = forget()

    private fun opened(): Bundle = bundle ?: throw Problem("no bundle is open: choose one first")

    private fun ready(provider: Provider): Task {
        val held = task
        if (held != null && runsOn == provider) return held
        held?.close()
        task = null
        fallback(provider) // before the task is open: two at once may be more than a phone has room for
        return Task.open(opened(), provider).also {
            task = it
            runsOn = provider
        }
    }

    /** What of the open bundle does not run on a provider: a profile tells once, and of the CPU nothing is to tell. */
    private fun fallback(provider: Provider): String? {
        if (provider == Provider.CPU) return null
        return placements.getOrPut(provider) {
            try {
                Bench(opened(), provider).placement(scratch)
            } catch (problem: Problem) {
                return "where it ran on ${provider.title} cannot be told: ${problem.message}"
            }
        }.fallback
    }

    private fun forget() {
        task?.close()
        task = null
        bundle = null
        asked = null
        parity = null
        rows = emptyList()
        placements.clear()
    }

    private fun told(answer: Answer): Any = when (answer) {
        is Answer.Text -> answer.text
        is Answer.Vector -> answer.values.map { it.toDouble() }
        is Answer.Labels -> answer.scores.map { (label, score) -> mapOf("label" to label, "score" to score.toDouble()) }
    }

    private fun <T> outcome(work: () -> T): Outcome<T> = try {
        Outcome.Done(work())
    } catch (problem: Problem) {
        Outcome.Failed(problem.message ?: "it failed and did not say why")
    } catch (_: Cancelled) {
        Outcome.Stopped
    } catch (error: IOException) {
        Outcome.Failed("a file cannot be read or written: ${error.message}")
    } catch (_: OutOfMemoryError) {
        Outcome.Failed("the memory of this app is full: take a smaller bundle or a shorter input")
    } catch (error: LinkageError) {
        Outcome.Failed("this app's library of ONNX Runtime cannot be loaded on this device: $error")
    } catch (error: Exception) {
        Outcome.Failed("this should not happen, please report it: $error")
    }
}
