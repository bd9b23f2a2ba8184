package org.edgetfm.core

import ai.onnxruntime.OnnxTensor

/**
 * A decoder that writes on from a prompt, token by token.
 *
 * Keys and values stay in buffers that the graph reads as its past and writes as its present: a step
 * adds one token's and copies nothing.
 */
class Generator(private val bundle: Bundle, provider: Provider, threads: Int) : AutoCloseable {
    private val said = bundle.manifest.generation
    private val context = said.whole("context")
    private val ends = if ("eos" in said) said.wholes("eos").toSet() else emptySet()
    private val keepsLast = bundle.manifest.components.getValue(Manifest.MODEL).inputs.any { it.name == Runner.KEEP }
    private val session = EdgeSession.open(
        bundle, Manifest.MODEL, provider, threads,
        // Of a prompt only the last token's logits are wanted: the others cost as much as a layer each.
        constants = if (keepsLast) mapOf(Runner.KEEP to Tensor.of(longArrayOf(1))) else emptyMap(),
    )
    val texts = Texts(bundle, session.component.inputs.filter { it.name == "input_ids" || it.name == "attention_mask" })
    private val past = session.component.inputs.filter { it.name.startsWith(Runner.PAST) }

    /** Writes on; `listener` is told each piece of text as it comes. */
    fun write(
        prompt: String,
        options: GenerationOptions = GenerationOptions(),
        cancellation: Cancellation = Cancellation(),
        listener: (String) -> Unit = {},
    ): Generated {
        var ids = texts.ids(prompt)
        if (ids.isEmpty()) ids = listOf(said.wholeOrNull("bos") ?: throw Problem("the prompt is empty: write something to go on from"))
        return write(ids, options, cancellation, listener)
    }

    fun write(prompt: List<Int>, options: GenerationOptions, cancellation: Cancellation, listener: (String) -> Unit): Generated {
        if (prompt.size >= context) throw Problem("the prompt has ${prompt.size} tokens, the model takes fewer than $context")
        val capacity = minOf(context, prompt.size + options.maxNewTokens)
        val sampler = Sampler(options)
        val stream = TextStream(texts.tokenizer::decode, prompt)
        val tokens = ArrayList<Int>()
        val text = StringBuilder()
        val times = ArrayList<Double>()
        Cache(capacity).use { cache ->
            val began = System.nanoTime()
            var logits = cache.step(prompt.map { it.toLong() }.toLongArray())
            val promptMs = (System.nanoTime() - began) / 1e6
            while (tokens.size < options.maxNewTokens) {
                cancellation.check()
                val next = sampler.pick(logits, prompt + tokens)
                if (next in ends && !options.endless) break
                tokens += next
                val piece = stream.put(next)
                if (piece.isNotEmpty()) listener(piece)
                text.append(piece)
                if (cache.length >= capacity) break
                val start = System.nanoTime()
                logits = cache.step(longArrayOf(next.toLong()))
                times += (System.nanoTime() - start) / 1e6
            }
            val rest = stream.rest()
            if (rest.isNotEmpty()) listener(rest)
            return Generated(tokens, text.append(rest).toString(), prompt.size, promptMs, times)
        }
    }

    override fun close() = session.close()

    /** Room for so many tokens, and the graph bound to it. */
    private inner class Cache(capacity: Int) : AutoCloseable {
        private val kept = HashMap<String, OnnxTensor>()
        private val inputs = HashMap<String, OnnxTensor>()
        private val mask = Tensor.of(LongArray(capacity) { 1L }, 1, capacity.toLong())
        var length = 0
            private set

        init {
            for (spec in past) {
                val (_, heads, _, size) = spec.shape
                val tensor = session.onnx(Tensor.empty(spec.dtype, 1L, heads as Long, capacity.toLong(), size as Long))
                inputs[spec.name] = tensor
                kept[spec.name.replaceFirst(Runner.PAST, Runner.PRESENT)] = tensor
            }
        }

        /** The logits behind the last of these tokens. */
        fun step(tokens: LongArray): FloatArray {
            length += tokens.size
            val seen = Tensor(Dtype.INT64, longArrayOf(1, length.toLong()), mask.firstLongs(length))
            val ids = session.onnx(Tensor.of(tokens, 1, tokens.size.toLong()))
            val places = session.onnx(seen)
            try {
                return session.last(inputs + mapOf("input_ids" to ids, "attention_mask" to places), kept)
            } finally {
                ids.close()
                places.close()
            }
        }

        override fun close() = inputs.values.forEach { it.close() }
    }
}
