package org.edgetfm.core

import org.edgetfm.core.tokenizer.Encoding
import org.edgetfm.core.tokenizer.Tokenizer

/** Texts to a graph's inputs, by the tokenizer that ships with the bundle. */
class Texts(bundle: Bundle, private val inputs: List<Spec>) {
    private val said = bundle.manifest.preprocessing.fieldsOr("tokenizer")
    private val most = said.wholeOrNull("max_length")
    private val lower = said.flag("lowercase", false)
    val tokenizer: Tokenizer = Tokenizer.read(
        bundle.asset("tokenizer.json") ?: throw Problem("the bundle has no tokenizer.json: it takes no text"),
    )

    /** As many tokens as the model takes, with the special ones. */
    fun encode(text: String, pair: String? = null): Encoding =
        tokenizer.encode(prepared(text), pair?.let { prepared(it) }, most = most)

    /** All tokens of a text. */
    fun ids(text: String, special: Boolean = true): List<Int> = tokenizer.encode(prepared(text), special = special).ids.toList()

    /** One text as a batch of one. */
    fun feeds(encoding: Encoding): Map<String, Tensor> = inputs.associate { spec ->
        val wide = (spec.shape.getOrNull(1) as? Long)?.toInt() ?: encoding.ids.size
        if (encoding.ids.size > wide) throw Problem("a text of ${encoding.ids.size} tokens is too long: the graph takes $wide")
        val pad = said.wholeOrNull("pad_token_id") ?: 0
        val value: (Int) -> Int = when (spec.name) {
            "input_ids" -> { i -> encoding.ids.getOrElse(i) { pad } }
            "attention_mask" -> { i -> if (i < encoding.ids.size) 1 else 0 }
            "token_type_ids" -> { i -> encoding.types.getOrElse(i) { 0 } }
            else -> throw Problem("no text becomes the input ${spec.name}")
        }
        val tensor = Tensor.empty(spec.dtype, 1L, wide.toLong())
        when (spec.dtype) {
            Dtype.INT64 -> tensor.longs().let { held -> repeat(wide) { held.put(it, value(it).toLong()) } }
            Dtype.INT32 -> tensor.ints().let { held -> repeat(wide) { held.put(it, value(it)) } }
            else -> throw Problem("${spec.name} is ${spec.dtype.word}: token ids are int64 or int32")
        }
        spec.name to tensor
    }

    private fun prepared(text: String) = if (lower) text.lowercase(java.util.Locale.ROOT) else text
}
