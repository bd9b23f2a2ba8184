package org.edgetfm.core

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtSession

/**
 * A text being written by an encoder-decoder about one source.
 *
 * The decoder's keys and values go from step to step as ONNX Runtime's own tensors; those of the
 * source are computed by the first step and kept.
 */
internal class Writing(private val decoder: EdgeSession, hidden: Tensor, mask: Tensor?) : AutoCloseable {
    private val names = decoder.component.inputs.map { it.name }.toSet()
    private val told = HashMap<String, OnnxTensor>()
    private var first: OrtSession.Result? = null
    private var last: OrtSession.Result? = null

    init {
        told["encoder_hidden_states"] = decoder.onnx(hidden)
        if (mask != null && "encoder_attention_mask" in names) told["encoder_attention_mask"] = decoder.onnx(mask)
    }

    /** The logits behind the last of these tokens. */
    fun step(tokens: LongArray): FloatArray {
        val own = ArrayList<OnnxTensor>()
        fun made(tensor: Tensor) = decoder.onnx(tensor).also { own += it }
        val inputs = HashMap<String, OnnxTensor>(told)
        inputs["input_ids"] = made(Tensor.of(tokens, 1, tokens.size.toLong()))
        inputs[Runner.USE_CACHE] = made(Tensor.flag(first != null))
        val wanted = LinkedHashSet<String>(setOf("logits"))
        for (spec in decoder.component.inputs.filter { it.name.startsWith(Runner.PAST) }) {
            val present = spec.name.replaceFirst(Runner.PAST, Runner.PRESENT)
            val ofSource = ".encoder." in spec.name
            val from = if (ofSource) first else last ?: first
            inputs[spec.name] = from?.get(present)?.get() as OnnxTensor?
                ?: made(Runner.filled(decoder.component, emptyMap()).getValue(spec.name))
            if (first == null || !ofSource) wanted += present
        }
        val result = decoder.runRaw(inputs, wanted)
        own.forEach { it.close() }
        if (first == null) first = result else last.also { last = result }?.close()
        return EdgeSession.lastRow(result.get("logits").get() as OnnxTensor)
    }

    override fun close() {
        told.values.forEach { it.close() }
        last?.close()
        first?.close()
    }
}
