package org.edgetfm.core.tokenizer

/**
 * A decimal as Hugging Face's tokenizers read it: all digits as one whole number, then one division.
 *
 * That is quick and, of more than 15 digits, sometimes not the nearest double. Unigram chooses the
 * better of two sums of such scores: where they tie, the last bit decides.
 */
internal fun quickDecimal(word: String): Double? {
    val exact = word.toDoubleOrNull() ?: return null
    val negative = word.startsWith('-')
    val mantissa = word.trimStart('-', '+').substringBefore('e').substringBefore('E')
    val digits = mantissa.replace(".", "").trimStart('0')
    if (digits.length > MOST_DIGITS) return exact
    val tens = mantissa.substringAfter('.', "").length
    val exponent = (word.substringAfter('e', word.substringAfter('E', "0")).toIntOrNull() ?: return exact) - tens
    if (exponent < -LARGEST || exponent > LARGEST) return exact
    val whole = (digits.toLongOrNull() ?: 0L).toDouble()
    val power = "1e${if (exponent < 0) -exponent else exponent}".toDouble()
    val found = if (exponent < 0) whole / power else whole * power
    return if (negative) -found else found
}

/** So many fit in a Long; files have at most 17. */
private const val MOST_DIGITS = 18
private const val LARGEST = 308
