package org.edgetfm.core.tokenizer

import java.text.Normalizer as Unicode
import org.edgetfm.core.Fields
import org.edgetfm.core.Problem

/** What is done to a text before it is cut: read from tokenizer.json's `normalizer`. */
internal fun interface Normalizer {
    fun normalize(text: String): String

    companion object {
        fun read(said: Fields?): Normalizer = if (said == null) Normalizer { it } else one(said)

        private fun one(said: Fields): Normalizer = when (val type = said.text("type")) {
            "Sequence" -> sequence(said.list("normalizers").map { one(Fields(it as Map<*, *>, "tokenizer.json: normalizer")) })
            "NFC" -> Normalizer { Unicode.normalize(it, Unicode.Form.NFC) }
            "NFD" -> Normalizer { Unicode.normalize(it, Unicode.Form.NFD) }
            "NFKC" -> Normalizer { Unicode.normalize(it, Unicode.Form.NFKC) }
            "NFKD" -> Normalizer { Unicode.normalize(it, Unicode.Form.NFKD) }
            "Lowercase" -> Normalizer { Characters.lower(it) }
            "StripAccents" -> Normalizer { text -> Characters.filter(text) { !Characters.isMark(it) } }
            "Strip" -> strip(said.flag("strip_left", true), said.flag("strip_right", true))
            "Prepend" -> said.text("prepend").let { added -> Normalizer { if (it.isEmpty()) it else added + it } }
            "Replace" -> replace(said)
            "BertNormalizer" -> bert(said)
            else -> throw Problem("tokenizer.json has the normalizer $type, which this app does not know")
        }

        private fun sequence(all: List<Normalizer>) = Normalizer { text -> all.fold(text) { t, n -> n.normalize(t) } }

        private fun strip(left: Boolean, right: Boolean) = Normalizer { text ->
            var start = 0
            var end = text.length
            while (left && start < end && Characters.isSpace(text[start].code)) start++
            while (right && end > start && Characters.isSpace(text[end - 1].code)) end--
            text.substring(start, end)
        }

        private fun replace(said: Fields): Normalizer {
            val pattern = said.fields("pattern")
            val content = said.text("content")
            if ("String" in pattern) return pattern.text("String").let { old -> Normalizer { it.replace(old, content) } }
            val least = RUNS[pattern.text("Regex")]
                ?: throw Problem("tokenizer.json replaces by the pattern ${pattern.text("Regex")}, which this app does not know")
            return Normalizer { runs(it, least, content) }
        }

        /** Patterns of runs of blanks, the only ones in use, and how long a run has to be. */
        private val RUNS = mapOf(" {2,}" to 2, " +" to 1)

        private fun runs(text: String, least: Int, content: String): String = buildString {
            var i = 0
            while (i < text.length) {
                var end = i
                while (end < text.length && text[end] == ' ') end++
                when {
                    end - i >= least -> append(content)
                    end > i -> append(text, i, end)
                    else -> append(text[end++])
                }
                i = end
            }
        }

        /** Clean, set Chinese characters apart, take accents off, make lower case: in this order. */
        private fun bert(said: Fields): Normalizer {
            val clean = said.flag("clean_text", true)
            val apart = said.flag("handle_chinese_chars", true)
            val lower = said.flag("lowercase", true)
            val strip = said.flag("strip_accents", lower)
            return Normalizer { given ->
                var text = given
                if (clean) text = cleaned(text)
                if (apart) {
                    text = buildString {
                        Characters.each(text) { c ->
                            if (Characters.isChinese(c)) append(' ').appendCodePoint(c).append(' ') else appendCodePoint(c)
                        }
                    }
                }
                if (strip) {
                    text = Characters.filter(Unicode.normalize(text, Unicode.Form.NFD)) { !Characters.isNonSpacingMark(it) }
                }
                if (lower) Characters.lower(text) else text
            }
        }

        private fun cleaned(text: String): String = buildString(text.length) {
            Characters.each(text) { c ->
                val blank = c == 0x09 || c == 0x0a || c == 0x0d
                when {
                    c == 0 || c == 0xfffd || (!blank && Characters.isOther(c)) -> Unit
                    blank || Characters.isSpace(c) -> append(' ')
                    else -> appendCodePoint(c)
                }
            }
        }
    }
}
