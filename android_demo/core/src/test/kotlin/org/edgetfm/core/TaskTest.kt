package org.edgetfm.core

import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** Whole tasks answer as edgetfm's own runtime does: what `expected/NAME.json` says of a bundle. */
class TaskTest {
    private fun expected(name: String): Map<*, *> {
        assertTrue("$name was not laid ready", Laid.file("expected/$name.json").isFile)
        return Json.parse(Laid.file("expected/$name.json").readText()) as Map<*, *>
    }

    private fun floats(list: Any?): FloatArray = (list as List<*>).map { (it as Number).toFloat() }.toFloatArray()

    @Test
    fun sentencesBecomeTheSameVectors() {
        val told = expected("minilm-int8")
        Task.open(Bundle.open(Laid.bundle("minilm-int8")), threads = 1).use { task ->
            for (case in told["cases"] as List<*>) {
                val (text, vector) = (case as Map<*, *>).let { it["text"] as String to floats(it["vector"]) }
                val cosine = (task.run(Given.OfText(text)) as Answer.Vector).cosine(Answer.Vector(vector))
                assertTrue("$text: cosine $cosine", cosine >= 0.995)
            }
        }
    }

    @Test
    fun picturesGetTheSameLabels() {
        val told = expected("vit-digits")
        Task.open(Bundle.open(Laid.bundle("vit-digits")), threads = 1).use { task ->
            for (case in told["cases"] as List<*>) {
                val held = case as Map<*, *>
                val pixels = floats(held["pixels"])
                val (height, width) = (held["size"] as List<*>).map { (it as Long).toInt() }
                val picture = Picture(width, height, 1, ByteArray(pixels.size) { pixels[it].toInt().toByte() })
                val best = (task.run(Given.OfPicture(picture)) as Answer.Labels).scores.first()
                assertEquals(held["label"], best.first)
                assertEquals((held["score"] as Number).toFloat(), best.second, 0.02f)
            }
        }
    }

    @Test
    fun smallPicturesBecomeTheSameVectors() {
        Task.open(Bundle.open(Laid.bundle("small-pictures")), threads = 1).use { task ->
            for (case in expected("small-pictures")["cases"] as List<*>) {
                val held = case as Map<*, *>
                val (height, width) = (held["size"] as List<*>).map { (it as Long).toInt() }
                val pixels = floats(held["pixels"])
                val picture = Picture(width, height, 3, ByteArray(pixels.size) { pixels[it].toInt().toByte() })
                val cosine = (task.run(Given.OfPicture(picture)) as Answer.Vector).cosine(Answer.Vector(floats(held["vector"])))
                assertTrue("${held["size"]}: cosine $cosine", cosine >= 0.9999)
            }
        }
    }

    @Test
    fun textsAndSoundsGetTheSameLabels() {
        sorted("small-texts") { Given.OfText(it["text"] as String) }
        sorted("small-sounds") { Given.OfSound(sound(it)) }
    }

    private fun sorted(name: String, given: (Map<*, *>) -> Given) = Task.open(Bundle.open(Laid.bundle(name)), threads = 1).use { task ->
        for (case in expected(name)["cases"] as List<*>) {
            val held = case as Map<*, *>
            val (label, score) = (task.run(given(held)) as Answer.Labels).scores.first()
            assertEquals(held["label"], label)
            assertEquals((held["score"] as Number).toFloat(), score, 1e-3f)
        }
    }

    private fun sound(held: Map<*, *>): Sound = File(held["file"] as String).inputStream().use { Sound.ofWave(it) }

    @Test
    fun aDecoderWritesTheSameTokensAndStreamsThem() {
        val told = expected("smollm2-int4")
        var longest = 0
        Task.open(Bundle.open(Laid.bundle("smollm2-int4")), threads = 1, options = GenerationOptions(maxNewTokens = 32)).use { task ->
            for (case in told["cases"] as List<*>) {
                val held = case as Map<*, *>
                val pieces = StringBuilder()
                val answer = task.run(Given.OfText(held["prompt"] as String)) { pieces.append(it) } as Answer.Text
                val wanted = held["tokens"] as List<*>
                assertEquals(wanted, answer.generated!!.tokens.take(wanted.size).map { it.toLong() })
                longest = maxOf(longest, wanted.size)
                assertEquals(answer.text, pieces.toString())
            }
        }
        assertEquals("a prompt is written on for all tokens", 32, longest)
    }

    @Test
    fun speechBecomesTheSameText() {
        val told = expected("whisper")
        Task.open(Bundle.open(Laid.bundle("whisper")), threads = 1).use { task ->
            for (case in told["cases"] as List<*>) {
                val held = case as Map<*, *>
                val answer = task.run(Given.OfSound(sound(held))) as Answer.Text
                assertEquals(held["text"], answer.text)
            }
        }
    }
}
