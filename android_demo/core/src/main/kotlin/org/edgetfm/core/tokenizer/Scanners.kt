package org.edgetfm.core.tokenizer

/** The patterns of pre-tokenizers, each as a scanner over code points. */
internal object Scanners {
    /** Words between white space, which is left out; with punctuation a word of its own. */
    fun words(text: String, punctuationApart: Boolean): List<String> {
        val found = ArrayList<String>()
        var start = -1
        var i = 0
        while (i < text.length) {
            val c = text.codePointAt(i)
            val size = Character.charCount(c)
            val sign = punctuationApart && Characters.isPunctuation(c)
            if (sign || Characters.isSpace(c)) {
                if (start >= 0) found += text.substring(start, i)
                start = -1
                if (sign) found += text.substring(i, i + size)
            } else if (start < 0) {
                start = i
            }
            i += size
        }
        if (start >= 0) found += text.substring(start)
        return found
    }

    /** `\w+|[^\w\s]+`. */
    fun wordsAndSigns(text: String): List<String> =
        cut(text) { c -> if (Characters.isSpace(c)) 0 else if (Characters.isWord(c)) 1 else 2 }
            .filter { !Characters.isSpace(it.codePointAt(0)) }

    /** Runs of what is one and of what is not. */
    fun runs(text: String, one: (Int) -> Boolean): List<String> = cut(text) { if (one(it)) 1 else 0 }

    private inline fun cut(text: String, kind: (Int) -> Int): List<String> {
        val found = ArrayList<String>()
        var start = 0
        var last = -1
        var i = 0
        while (i < text.length) {
            val c = text.codePointAt(i)
            val now = kind(c)
            if (last >= 0 && now != last) {
                found += text.substring(start, i)
                start = i
            }
            last = now
            i += Character.charCount(c)
        }
        if (start < text.length) found += text.substring(start)
        return found
    }

    /** Cuts at each character that is one; `how` says where it goes. */
    fun split(text: String, how: String, one: (Int) -> Boolean): List<String> {
        val found = ArrayList<String>()
        var start = 0
        var i = 0
        fun end(at: Int) {
            if (at > start) found += text.substring(start, at)
            start = at
        }
        while (i < text.length) {
            val c = text.codePointAt(i)
            val next = i + Character.charCount(c)
            if (one(c)) {
                when (how) {
                    "Removed" -> { end(i); start = next }
                    "MergedWithNext" -> end(i)
                    "MergedWithPrevious" -> end(next)
                    else -> { end(i); end(next) }
                }
            }
            i = next
        }
        end(text.length)
        return found
    }

    /** Words that each begin with a sign, the first perhaps not. */
    fun before(text: String, sign: Char): List<String> = split(text, "MergedWithNext") { it == sign.code }

    /** `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` */
    fun gpt2(text: String): List<String> = scan(text) { at ->
        val end = contraction(text, at, anyCase = false)
        if (end > at) return@scan end
        val start = if (text[at] == ' ' && at + 1 < text.length) at + 1 else at
        val c = text.codePointAt(start)
        if (!Characters.isSpace(c)) run(text, start, kind(c)) else blanks(text, at)
    }

    /**
     * `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,most}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
     */
    fun gpt4(text: String, most: Int): List<String> = scan(text) { at ->
        val end = contraction(text, at, anyCase = true)
        if (end > at) return@scan end
        val c = text.codePointAt(at)
        val after = at + Character.charCount(c)
        if (Characters.isLetter(c)) return@scan run(text, at, LETTER)
        val edge = c == 0x0a || c == 0x0d
        if (!edge && !Characters.isNumber(c) && after < text.length && Characters.isLetter(text.codePointAt(after))) {
            return@scan run(text, after, LETTER)
        }
        if (Characters.isNumber(c)) return@scan numbers(text, at, most)
        val start = if (c == 0x20 && after < text.length) after else at
        if (kind(text.codePointAt(start)) == SIGN) {
            var stop = run(text, start, SIGN)
            while (stop < text.length && (text[stop] == '\r' || text[stop] == '\n')) stop++
            return@scan stop
        }
        lines(text, at)
    }

    private inline fun scan(text: String, next: (Int) -> Int): List<String> {
        val found = ArrayList<String>()
        var at = 0
        while (at < text.length) {
            val end = next(at)
            found += text.substring(at, end)
            at = end
        }
        return found
    }

    private fun contraction(text: String, at: Int, anyCase: Boolean): Int {
        if (text[at] != '\'') return at
        for (ending in ENDINGS) if (text.startsWith(ending, at + 1, anyCase)) return at + 1 + ending.length
        return at
    }

    /** `\s*[\r\n]+` if a line ends among these blanks, else as [blanks]. */
    private fun lines(text: String, at: Int): Int {
        val end = blankEnd(text, at)
        for (i in end - 1 downTo at) if (text[i] == '\r' || text[i] == '\n') return i + 1
        return blanks(text, at)
    }

    /** All blanks at the text's end; else all but the last, which the next word takes; one is one. */
    private fun blanks(text: String, at: Int): Int {
        val end = blankEnd(text, at)
        return if (end == text.length || end - at == 1) end else end - 1
    }

    private fun blankEnd(text: String, at: Int): Int {
        var end = at
        while (end < text.length && Characters.isSpace(text[end].code)) end++
        return end
    }

    private fun numbers(text: String, at: Int, most: Int): Int {
        var end = at
        var count = 0
        while (end < text.length && count < most && Characters.isNumber(text.codePointAt(end))) {
            end += Character.charCount(text.codePointAt(end))
            count++
        }
        return end
    }

    private fun run(text: String, start: Int, kind: Int): Int {
        var end = start
        while (end < text.length && kind(text.codePointAt(end)) == kind) end += Character.charCount(text.codePointAt(end))
        return end
    }

    private fun kind(c: Int): Int = when {
        Characters.isLetter(c) -> LETTER
        Characters.isNumber(c) -> NUMBER
        Characters.isSpace(c) -> BLANK
        else -> SIGN
    }

    private const val LETTER = 0
    private const val NUMBER = 1
    private const val BLANK = 2
    private const val SIGN = 3
    private val ENDINGS = listOf("s", "t", "re", "ve", "m", "ll", "d")

    private const val GPT4_END = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    private const val GPT4_START = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"

    /** Patterns as tokenizer.json has them, and the scanner of each. */
    val NAMED: Map<String, (String) -> List<String>> = mapOf(
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+" to ::gpt2,
        "$GPT4_START\\p{N}{1,3}$GPT4_END" to { text -> gpt4(text, 3) },
        "$GPT4_START\\p{N}$GPT4_END" to { text -> gpt4(text, 1) },
    )
}
