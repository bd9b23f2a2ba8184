package org.edgetfm.core.tokenizer

import org.edgetfm.core.Fields
import org.edgetfm.core.Problem

/** The special tokens around a text or a pair: read from tokenizer.json's `post_processor`. */
internal class Template private constructor(private val single: List<Part>, private val pair: List<Part>) {
    /** Special tokens, or the place of the first or second text where `ids` is null. */
    private class Part(val ids: List<Int>?, val second: Boolean, val type: Int)

    fun added(two: Boolean): Int = (if (two) pair else single).sumOf { it.ids?.size ?: 0 }

    fun around(one: List<Int>, two: List<Int>?): Encoding {
        val ids = ArrayList<Int>()
        val types = ArrayList<Int>()
        for (part in if (two == null) single else pair) {
            val held = part.ids ?: if (part.second) two!! else one
            ids += held
            repeat(held.size) { types += part.type }
        }
        return Encoding(ids.toIntArray(), types.toIntArray())
    }

    companion object {
        private val ONE = Part(null, false, 0)
        val BARE = Template(listOf(ONE), listOf(ONE, Part(null, true, 1)))

        fun read(said: Fields?, id: (String) -> Int?): Template = when (val type = said?.text("type")) {
            null, "ByteLevel" -> BARE
            "TemplateProcessing" -> Template(parts(said, "single"), parts(said, "pair"))
            "BertProcessing", "RobertaProcessing" -> around(said, type == "RobertaProcessing")
            "Sequence" -> said.list("processors").map { read(Fields(it as Map<*, *>, "tokenizer.json: post_processor"), id) }
                .lastOrNull { it !== BARE } ?: BARE
            else -> throw Problem("tokenizer.json has the post-processor $type, which this app does not know")
        }

        private fun parts(said: Fields, name: String): List<Part> = said.list(name).map { held ->
            val part = Fields(held as Map<*, *>, "tokenizer.json: post_processor")
            val token = part.fieldsOrNull("SpecialToken")
            if (token != null) {
                Part(said.fields("special_tokens").fields(token.text("id")).wholes("ids"), false, token.whole("type_id"))
            } else {
                val text = part.fields("Sequence")
                Part(null, text.text("id") == "B", text.whole("type_id"))
            }
        }

        private fun around(said: Fields, doubled: Boolean): Template {
            fun token(name: String, type: Int) = Part(listOf((said.list(name)[1] as Long).toInt()), false, type)
            val second = if (doubled) 0 else 1
            val start = token("cls", 0)
            val middle = if (doubled) listOf(token("sep", 0), token("sep", 0)) else listOf(token("sep", 0))
            return Template(
                listOf(start, ONE, token("sep", 0)),
                listOf(start, ONE) + middle + listOf(Part(null, true, second), token("sep", second)),
            )
        }
    }
}
