package org.edgetfm.core.tokenizer

import java.io.ByteArrayOutputStream
import org.edgetfm.core.Fields
import org.edgetfm.core.Problem

/** Tokens to a text: read from tokenizer.json's `decoder`, whose steps change the list of tokens. */
internal class Decoder private constructor(private val steps: List<(List<String>) -> List<String>>, private val between: String) {
    fun decode(tokens: List<String>): String = steps.fold(tokens) { held, step -> step(held) }.joinToString(between)

    companion object {
        fun read(said: Fields?): Decoder = if (said == null) Decoder(emptyList(), " ") else Decoder(all(said), "")

        private fun all(said: Fields): List<(List<String>) -> List<String>> = when (val type = said.text("type")) {
            "Sequence" -> said.list("decoders").flatMap { all(Fields(it as Map<*, *>, "tokenizer.json: decoder")) }
            "ByteLevel" -> listOf { tokens -> listOf(bytes(tokens)) }
            "WordPiece" -> listOf(wordPiece(said.textOr("prefix", "##"), said.flag("cleanup", true)))
            "Metaspace" -> listOf(metaspace(said))
            "Fuse" -> listOf { tokens -> listOf(tokens.joinToString("")) }
            "ByteFallback" -> listOf(::fallback)
            "Replace" -> said.fields("pattern").text("String").let { old ->
                val new = said.text("content")
                listOf { tokens -> tokens.map { it.replace(old, new) } }
            }
            "Strip" -> listOf(strip(said.text("content")[0], said.whole("start"), said.whole("stop")))
            else -> throw Problem("tokenizer.json has the decoder $type, which this app does not know")
        }

        private fun bytes(tokens: List<String>): String {
            val out = ByteArrayOutputStream()
            for (token in tokens) out.write(Bytes.toBytes(token) ?: token.toByteArray(Charsets.UTF_8))
            return out.toString("UTF-8")
        }

        private fun wordPiece(prefix: String, clean: Boolean) = { tokens: List<String> ->
            tokens.mapIndexed { i, token ->
                val word = if (i == 0) token else if (token.startsWith(prefix)) token.substring(prefix.length) else " $token"
                if (clean) CLEANED.fold(word) { text, (old, new) -> text.replace(old, new) } else word
            }
        }

        private fun metaspace(said: Fields): (List<String>) -> List<String> {
            val sign = said.textOr("replacement", "\u2581")
            val prefix = said.textOr("prepend_scheme", "always") != "never"
            return { tokens ->
                tokens.mapIndexed { i, token ->
                    val text = token.replace(sign, " ")
                    if (i == 0 && prefix && text.startsWith(" ")) text.substring(1) else text
                }
            }
        }

        /** Runs of `<0x41>` to what their bytes say in UTF-8; bytes that are none become U+FFFD each. */
        private fun fallback(tokens: List<String>): List<String> {
            val found = ArrayList<String>()
            val held = ByteArrayOutputStream()
            fun flush() {
                if (held.size() == 0) return
                val text = held.toString("UTF-8")
                if ('\uFFFD' in text) repeat(held.size()) { found += "\uFFFD" } else found += text
                held.reset()
            }
            for (token in tokens) {
                val byte = if (token.length == 6 && token.startsWith("<0x") && token.endsWith(">")) token.substring(3, 5).toIntOrNull(16) else null
                if (byte != null) {
                    held.write(byte)
                } else {
                    flush()
                    found += token
                }
            }
            flush()
            return found
        }

        private fun strip(sign: Char, start: Int, stop: Int) = { tokens: List<String> ->
            tokens.map { token ->
                var from = 0
                while (from < minOf(start, token.length) && token[from] == sign) from++
                var to = token.length
                while (token.length - to < stop && to > from && token[to - 1] == sign) to--
                token.substring(from, to)
            }
        }

        private val CLEANED = listOf(
            " ." to ".", " ?" to "?", " !" to "!", " ," to ",", " ' " to "'", " n't" to "n't", " 'm" to "'m",
            " do not" to " don't", " 's" to "'s", " 've" to "'ve", " 're" to "'re",
        )
    }
}
