package org.edgetfm.core

import java.io.File
import java.io.IOException

/** What was measured, as `edgetfm bench --json` writes it, and where the nodes ran. */
data class Measured(val result: Map<String, Any?>, val placement: Placement)

/**
 * How fast a bundle answers on this device, in the form that `edgetfm bench --json` writes.
 *
 * Of a decoder the latency is that of a token behind a prompt, of others that of one whole answer.
 */
class Bench(
    private val bundle: Bundle,
    private val provider: Provider,
    private val threads: Int = Provider.usualThreads(),
    private val runs: Int = 50,
    private val sequence: Int = 128,
    private val cancellation: Cancellation = Cancellation(),
    private val progress: (done: Int, of: Int) -> Unit = { _, _ -> },
) {
    private val manifest = bundle.manifest
    private val inputs = Filler(bundle, sequence)
    private var peak: Long? = null

    /** `scratch` takes a profile for a moment, unless the placement is `known`; `machine` is what is known of the device. */
    fun run(scratch: File, machine: Map<String, Any?> = emptyMap(), known: Placement? = null): Measured {
        val before = anonymous()
        peak = null
        val found = when {
            manifest.components.size > 1 -> pair()
            manifest.task == "text-generation" -> decoder()
            else -> single()
        }
        val most = peak
        progress(runs, runs)
        val placement = known ?: placement(scratch)
        val result = linkedMapOf(
            "latency_ms" to summary(found.times),
            "generation" to found.generation(sequence),
            "load_ms" to found.loadMs,
            "peak_memory_mb" to if (before != null && most != null) maxOf(0L, most - before) / 1e6 else null,
            "model" to linkedMapOf("task" to manifest.task, "name" to manifest.source["name"], "sha256" to manifest.source["sha256"]),
            "files" to bundle.files.mapValues { it.value.sha256 },
            "bytes" to bundle.bytes,
            "batch" to 1,
            "sequence" to if (inputs.free) sequence else null,
            "threads" to threads,
            "runs" to found.times.size,
            "precision" to manifest.precision,
            "device" to provider.word,
            "placement" to placement.nodes,
            "session" to mapOf("config_entries" to manifest.configEntries),
            "machine" to machine,
        )
        return Measured(result, placement)
    }

    /** Where the nodes of the first graph run: of an encoder-decoder the encoder, which works longest. */
    fun placement(scratch: File): Placement {
        val component = manifest.components.keys.first()
        val held = manifest.components.getValue(component)
        return Placement.measure(bundle, component, provider, Runner.filled(held, inputs.of(held)), scratch)
    }

    private class Timed(val loadMs: Double, val times: List<Double>, private val firstMs: Double? = null) {
        fun generation(prompt: Int): Map<String, Any?>? = firstMs?.let {
            mapOf(
                "prompt_tokens" to prompt,
                "prefill_tokens_per_second" to 1e3 * prompt / it,
                "decode_tokens_per_second" to 1e3 / percentile(times.sorted(), 0.5),
                "time_to_first_token_ms" to it,
            )
        }
    }

    private fun single(): Timed {
        val (loadMs, session) = timed { EdgeSession.open(bundle, Manifest.MODEL, provider, threads) }
        session.use {
            val fed = inputs.of(session.component)
            repeat(WARM_UP) { step { session.run(fed) } }
            val times = List(runs) { number -> step(number) { session.run(fed) } }
            sample()
            return Timed(loadMs, times)
        }
    }

    private fun decoder(): Timed {
        val (loadMs, generator) = timed { Generator(bundle, provider, threads) }
        generator.use {
            val prompt = List(sequence) { 1 }
            var told = 0
            fun write(tokens: Int) = generator.write(prompt, GenerationOptions(maxNewTokens = tokens, endless = true), cancellation) {
                progress(minOf(++told, runs), runs)
            }
            write(2)
            val written = write(runs)
            sample()
            return Timed(loadMs, written.stepMs, written.promptMs)
        }
    }

    private fun pair(): Timed {
        val (loadMs, encoder) = timed { EdgeSession.open(bundle, Manifest.ENCODER, provider, threads) }
        encoder.use {
            val (moreMs, decoder) = timed { EdgeSession.open(bundle, Manifest.DECODER, provider, threads) }
            decoder.use {
                val start = longArrayOf(manifest.generation.whole("decoder_start").toLong())
                val fed = inputs.of(encoder.component)
                fun write(count: Int): Pair<Double, List<Double>> {
                    val (heardMs, hidden) = timed { encoder.run(fed, listOf(Runner.HIDDEN)).getValue(Runner.HIDDEN) }
                    Writing(decoder, hidden, fed["attention_mask"]).use { writing ->
                        val firstMs = step { writing.step(start) }
                        val times = List(count) { number -> step(number) { writing.step(start) } }
                        sample()
                        return heardMs + firstMs to times
                    }
                }
                write(2)
                val (firstMs, times) = write(minOf(runs, manifest.generation.whole("context") / 2))
                return Timed(loadMs + moreMs, times, firstMs)
            }
        }
    }

    /** Reads the memory while the model is still in it: once closed, what it took is given back. */
    private fun sample() {
        val now = anonymous() ?: return
        peak = maxOf(peak ?: now, now)
    }

    private fun step(number: Int = 0, work: () -> Unit): Double {
        cancellation.check()
        progress(number, runs)
        return timed(work).first
    }

    companion object {
        private const val WARM_UP = 5

        private inline fun <T> timed(work: () -> T): Pair<Double, T> {
            val began = System.nanoTime()
            val found = work()
            return (System.nanoTime() - began) / 1e6 to found
        }

        private fun summary(times: List<Double>): Map<String, Double> {
            val sorted = times.sorted()
            return linkedMapOf(
                "p50" to percentile(sorted, 0.50), "p95" to percentile(sorted, 0.95),
                "min" to sorted.first(), "mean" to sorted.average(),
            )
        }

        /** Between the two nearest, as numpy has it. */
        internal fun percentile(sorted: List<Double>, share: Double): Double {
            val at = share * (sorted.size - 1)
            val low = at.toInt()
            val high = minOf(low + 1, sorted.size - 1)
            return sorted[low] + (sorted[high] - sorted[low]) * (at - low)
        }

        /** Anonymous memory of this process in bytes, where the system tells: mapped weights are not in it. */
        private fun anonymous(): Long? = try {
            File("/proc/self/status").readLines().firstOrNull { it.startsWith("RssAnon:") }
                ?.filter { it.isDigit() }?.toLongOrNull()?.times(1024)
        } catch (_: IOException) {
            null
        }
    }
}

/** Inputs of a graph that only have the right shape: what they say does not matter to how long they take. */
internal class Filler(bundle: Bundle, private val sequence: Int) {
    private val image = bundle.manifest.preprocessing.fieldsOr("image")
    private val size = if ("size" in image) image.wholes("size").map { it.toLong() } else listOf(224L, 224L)

    /** Whether a graph takes texts or sounds of any length. */
    val free: Boolean = bundle.manifest.components.values.any { component ->
        component.inputs.any { spec -> !spec.name.startsWith(Runner.PAST) && spec.shape.any { it == "sequence" || it == "encoder_sequence" } }
    }

    /** One row of each input that no graph before it makes. */
    fun of(component: Component): Map<String, Tensor> = component.inputs
        .filterNot { it.name == Runner.USE_CACHE || it.name == Runner.KEEP || it.name.startsWith(Runner.PAST) || it.name.startsWith("encoder_") }
        .associate { it.name to filled(it) }

    private fun filled(spec: Spec): Tensor {
        val shape = spec.shape.mapIndexed { axis, side ->
            when {
                side is Long -> side
                axis == 0 -> 1L
                side == "height" -> size[0]
                side == "width" -> size[1]
                side == "samples" -> 16_000L
                else -> sequence.toLong()
            }
        }
        val tensor = Tensor.empty(spec.dtype, *shape.toLongArray())
        when (spec.dtype) {
            Dtype.INT64 -> tensor.longs().let { held -> repeat(held.capacity()) { held.put(it, 1L) } }
            Dtype.INT32 -> tensor.ints().let { held -> repeat(held.capacity()) { held.put(it, 1) } }
            Dtype.FLOAT32 -> tensor.floats().let { held -> repeat(held.capacity()) { held.put(it, (it % 17 - 8) / 8f) } }
            else -> Unit
        }
        return tensor
    }
}
