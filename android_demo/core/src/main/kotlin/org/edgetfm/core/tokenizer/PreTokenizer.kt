package org.edgetfm.core.tokenizer

import org.edgetfm.core.Fields
import org.edgetfm.core.Problem

/**
 * Cuts a text into words: read from tokenizer.json's `pre_tokenizer`.
 *
 * The patterns there are written for a regex engine that neither Android nor the JVM has, so each
 * is a scanner of its own here.
 */
internal fun interface PreTokenizer {
    fun cut(text: String, first: Boolean): List<String>

    companion object {
        fun read(said: Fields?): PreTokenizer = if (said == null) PreTokenizer { text, _ -> listOf(text) } else one(said)

        private fun one(said: Fields): PreTokenizer = when (val type = said.text("type")) {
            "Sequence" -> sequence(said.list("pretokenizers").map { one(Fields(it as Map<*, *>, "tokenizer.json: pre_tokenizer")) })
            "BertPreTokenizer" -> PreTokenizer { text, _ -> Scanners.words(text, punctuationApart = true) }
            "WhitespaceSplit" -> PreTokenizer { text, _ -> Scanners.words(text, punctuationApart = false) }
            "Whitespace" -> PreTokenizer { text, _ -> Scanners.wordsAndSigns(text) }
            "Punctuation" -> behaviour(said).let { how -> PreTokenizer { text, _ -> Scanners.split(text, how, Characters::isPunctuation) } }
            "Digits" -> digits(said.flag("individual_digits", false))
            "ByteLevel" -> byteLevel(said.flag("add_prefix_space", true), said.flag("use_regex", true))
            "Metaspace" -> metaspace(said)
            "Split" -> split(said)
            else -> throw Problem("tokenizer.json has the pre-tokenizer $type, which this app does not know")
        }

        private fun sequence(all: List<PreTokenizer>) = PreTokenizer { text, first ->
            all.fold(listOf(text)) { pieces, next ->
                pieces.flatMapIndexed { i, piece -> next.cut(piece, first && i == 0) }
            }
        }

        private fun digits(single: Boolean) = PreTokenizer { text, _ ->
            if (single) Scanners.split(text, "Isolated", Characters::isNumber) else Scanners.runs(text, Characters::isNumber)
        }

        private fun byteLevel(prefix: Boolean, cuts: Boolean) = PreTokenizer { text, _ ->
            val blank = prefix && (text.isEmpty() || !Characters.isSpace(text.codePointAt(0)))
            val whole = if (blank) " $text" else text
            (if (cuts) Scanners.gpt2(whole) else listOf(whole)).map { Bytes.toCharacters(it) }
        }

        private fun metaspace(said: Fields): PreTokenizer {
            val sign = said.textOr("replacement", "\u2581")
            val scheme = said.textOr("prepend_scheme", if (said.flag("add_prefix_space", true)) "always" else "never")
            val cuts = said.flag("split", true)
            return PreTokenizer { text, first ->
                var whole = text.replace(" ", sign)
                val wanted = scheme == "always" || (scheme == "first" && first)
                if (wanted && whole.isNotEmpty() && !whole.startsWith(sign)) whole = sign + whole
                if (cuts) Scanners.before(whole, sign[0]) else listOf(whole)
            }
        }

        private fun split(said: Fields): PreTokenizer {
            val pattern = said.fields("pattern")
            val how = behaviour(said)
            if ("String" in pattern) {
                val text = pattern.text("String")
                if (text == " ") return PreTokenizer { piece, _ -> Scanners.split(piece, how) { it == 0x20 } }
                throw Problem("tokenizer.json splits at '$text', which this app does not do")
            }
            val scanner = Scanners.NAMED[pattern.text("Regex")]
            if (scanner == null || how != "Isolated" || said.flag("invert", false)) {
                throw Problem("tokenizer.json splits by the pattern ${pattern.text("Regex")}, which this app does not know")
            }
            return PreTokenizer { text, _ -> scanner(text) }
        }

        private fun behaviour(said: Fields): String = said.textOr("behavior", "Isolated").also {
            if (it !in setOf("Isolated", "Removed", "MergedWithNext", "MergedWithPrevious")) {
                throw Problem("tokenizer.json splits with the behaviour $it, which this app does not know")
            }
        }
    }
}

/** Bytes as the printable characters that byte-level vocabularies are written in. */
internal object Bytes {
    private val characters = CharArray(256)
    private val bytes = HashMap<Char, Byte>()

    init {
        var next = 256
        for (b in 0..255) {
            val printable = b in 0x21..0x7e || b in 0xa1..0xac || b in 0xae..0xff
            characters[b] = if (printable) b.toChar() else (next++).toChar()
            bytes[characters[b]] = b.toByte()
        }
    }

    val alphabet: List<Char> get() = characters.toList()

    fun toCharacters(text: String): String {
        val held = text.toByteArray(Charsets.UTF_8)
        return String(CharArray(held.size) { characters[held[it].toInt() and 0xff] })
    }

    fun toBytes(text: String): ByteArray? {
        val found = ByteArray(text.length)
        for (i in text.indices) found[i] = bytes[text[i]] ?: return null
        return found
    }
}
