package org.edgetfm.core.tokenizer

/** Properties of code points as the tokenizers library sees them. */
internal object Characters {
    fun isLetter(c: Int): Boolean = when (Character.getType(c).toByte()) {
        Character.UPPERCASE_LETTER, Character.LOWERCASE_LETTER, Character.TITLECASE_LETTER,
        Character.MODIFIER_LETTER, Character.OTHER_LETTER,
        -> true
        else -> false
    }

    fun isNumber(c: Int): Boolean = when (Character.getType(c).toByte()) {
        Character.DECIMAL_DIGIT_NUMBER, Character.LETTER_NUMBER, Character.OTHER_NUMBER -> true
        else -> false
    }

    fun isNonSpacingMark(c: Int): Boolean = Character.getType(c).toByte() == Character.NON_SPACING_MARK

    fun isMark(c: Int): Boolean = when (Character.getType(c).toByte()) {
        Character.NON_SPACING_MARK, Character.COMBINING_SPACING_MARK, Character.ENCLOSING_MARK -> true
        else -> false
    }

    /** Unicode's White_Space, which Java's own tests of white space leave incomplete. */
    fun isSpace(c: Int): Boolean =
        c in 0x09..0x0d || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || c in 0x2000..0x200a ||
            c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000

    /** ASCII's signs, `$` and `+` among them, and Unicode's punctuation. */
    fun isPunctuation(c: Int): Boolean = when {
        c < 0x80 -> c in 0x21..0x2f || c in 0x3a..0x40 || c in 0x5b..0x60 || c in 0x7b..0x7e
        else -> when (Character.getType(c).toByte()) {
            Character.CONNECTOR_PUNCTUATION, Character.DASH_PUNCTUATION, Character.START_PUNCTUATION,
            Character.END_PUNCTUATION, Character.INITIAL_QUOTE_PUNCTUATION, Character.FINAL_QUOTE_PUNCTUATION,
            Character.OTHER_PUNCTUATION,
            -> true
            else -> false
        }
    }

    /** Control, format and private characters, of which BERT's normalizer takes none. */
    fun isOther(c: Int): Boolean = when (Character.getType(c).toByte()) {
        Character.CONTROL, Character.FORMAT, Character.PRIVATE_USE, Character.SURROGATE -> true
        else -> false
    }

    fun isChinese(c: Int): Boolean =
        c in 0x4e00..0x9fff || c in 0x3400..0x4dbf || c in 0x20000..0x2a6df || c in 0x2a700..0x2b73f ||
            c in 0x2b740..0x2b81f || c in 0x2b920..0x2ceaf || c in 0xf900..0xfaff || c in 0x2f800..0x2fa1f

    fun isWord(c: Int): Boolean = isLetter(c) || isMark(c) || isNumber(c) ||
        Character.getType(c).toByte() == Character.CONNECTOR_PUNCTUATION

    /** One code point at a time, as Rust does it: no final sigma, no language's own rules. */
    fun lower(text: String): String = buildString(text.length) {
        each(text) { c -> if (c == 0x130) append("i\u0307") else appendCodePoint(Character.toLowerCase(c)) }
    }

    inline fun each(text: String, take: (Int) -> Unit) {
        var i = 0
        while (i < text.length) {
            val c = text.codePointAt(i)
            take(c)
            i += Character.charCount(c)
        }
    }

    inline fun filter(text: String, keep: (Int) -> Boolean): String = buildString(text.length) {
        each(text) { c -> if (keep(c)) appendCodePoint(c) }
    }
}
