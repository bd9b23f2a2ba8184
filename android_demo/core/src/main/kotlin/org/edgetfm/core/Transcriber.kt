package org.edgetfm.core

import kotlin.math.exp
import kotlin.math.ln

/** Something that was said from [start] to [end], in seconds. */
data class Segment(val start: Double, val end: Double, val text: String)

/**
 * Writes down speech of any length, heard a window at a time, greedily.
 *
 * The rules about times, and where the next window begins, are those of openai/whisper (Radford et
 * al. 2022, https://arxiv.org/abs/2212.04356).
 */
class Transcriber(bundle: Bundle, provider: Provider, threads: Int) : AutoCloseable {
    private val said = bundle.manifest.generation
    private val reader = AudioReader(bundle.manifest.preprocessing.fields("audio"))
    private val encoder = EdgeSession.open(bundle, Manifest.ENCODER, provider, threads)
    private val decoder = try {
        EdgeSession.open(bundle, Manifest.DECODER, provider, threads)
    } catch (problem: Problem) {
        encoder.close()
        throw problem
    }
    private val texts = Texts(bundle, emptyList())
    private val ends = said.wholes("eos").toSet()
    private val start = said.whole("decoder_start")
    private val begin = said.wholeOrNull("timestamps_begin")
    private val most = said.whole("context") / 2
    private val never = if ("suppress" in said) said.wholes("suppress") else emptyList()
    private val notFirst = if ("begin_suppress" in said) said.wholes("begin_suppress") else emptyList()
    private val languages = said.fieldsOr("language_tokens").values
    private val tasks = said.fieldsOr("task_tokens").values

    /** What is said in a sound; `listener` is told each part as it is known. */
    fun transcribe(sound: Sound, cancellation: Cancellation = Cancellation(), listener: (Segment) -> Unit = {}): String {
        val wave = sound.at(reader.rate)
        val window = reader.samples ?: wave.samples.size
        if (wave.samples.size <= window) {
            val text = texts.tokenizer.decode(words(heard(wave, timed = false, cancellation)))
            listener(Segment(0.0, wave.seconds, text))
            return text.trim()
        }
        val all = StringBuilder()
        var at = 0
        while (at < wave.samples.size) {
            val piece = Sound(wave.samples.copyOfRange(at, minOf(wave.samples.size, at + window)), wave.rate)
            if (piece.samples.size < reader.least || piece.seconds < LEAST_SECONDS) break
            val (segments, done) = cut(heard(piece, timed = begin != null, cancellation), piece)
            for (segment in segments.filter { it.text.isNotBlank() && it.end > it.start }) {
                val offset = at.toDouble() / wave.rate
                listener(Segment(offset + segment.start, offset + segment.end, segment.text))
                all.append(segment.text)
            }
            at += done
        }
        return all.toString().trim()
    }

    private fun heard(piece: Sound, timed: Boolean, cancellation: Cancellation): List<Int> {
        val name = encoder.component.inputs.first().name
        val hidden = encoder.run(mapOf(name to reader.read(piece)), listOf(Runner.HIDDEN)).getValue(Runner.HIDDEN)
        Writing(decoder, hidden, null).use { writing ->
            val prompt = arrayListOf(start)
            if (languages.isNotEmpty()) {
                val logits = writing.step(longArrayOf(start.toLong()))
                prompt += languages.values.map { (it as Long).toInt() }.maxByOrNull { logits[it] }!!
                prompt += (tasks["transcribe"] as? Long)?.toInt() ?: throw Problem("the bundle names languages and no token to transcribe")
            }
            if (!timed && begin != null) prompt += begin - 1
            val fresh = if (languages.isEmpty()) prompt else prompt.drop(1)
            var logits = writing.step(fresh.map { it.toLong() }.toLongArray())
            val tokens = ArrayList<Int>()
            while (tokens.size < most) {
                cancellation.check()
                never.forEach { logits[it] = Float.NEGATIVE_INFINITY }
                if (tokens.isEmpty()) notFirst.forEach { logits[it] = Float.NEGATIVE_INFINITY }
                if (timed && begin != null) times(logits, tokens, begin)
                val next = Sampler.likeliest(logits)
                if (next in ends) break
                tokens += next
                logits = writing.step(longArrayOf(next.toLong()))
            }
            return tokens
        }
    }

    /** Times never fall, come in pairs but before the end, and begin each text. */
    private fun times(scores: FloatArray, said: List<Int>, begin: Int) {
        fun forbid(from: Int, to: Int) = scores.fill(Float.NEGATIVE_INFINITY, from.coerceIn(0, scores.size), to.coerceIn(0, scores.size))
        forbid(begin - 1, begin)
        val held = said.filter { it >= begin }
        val last = said.isNotEmpty() && said.last() >= begin
        val paired = said.size < 2 || said[said.size - 2] >= begin
        if (last && paired) forbid(begin, scores.size) else if (last) forbid(0, ends.min())
        if (held.isNotEmpty()) forbid(begin, if (last && !paired) held.last() else held.last() + 1)
        if (said.isEmpty()) {
            forbid(0, begin)
            forbid(begin + LATEST + 1, scores.size)
        }
        preferTime(scores, begin)
    }

    /** Where all times together are likelier than any word, a time it is. */
    private fun preferTime(scores: FloatArray, begin: Int) {
        var best = Float.NEGATIVE_INFINITY
        for (i in begin until scores.size) best = maxOf(best, scores[i])
        if (best == Float.NEGATIVE_INFINITY) return
        var sum = 0.0
        for (i in begin until scores.size) sum += exp((scores[i] - best).toDouble())
        var word = Float.NEGATIVE_INFINITY
        for (i in 0 until begin) word = maxOf(word, scores[i])
        if (best + ln(sum) > word) scores.fill(Float.NEGATIVE_INFINITY, 0, begin)
    }

    /** The segments of a window, and how many samples of it are done: the rest is heard again. */
    private fun cut(tokens: List<Int>, piece: Sound): Pair<List<Segment>, Int> {
        val size = piece.samples.size
        if (begin == null) return listOf(segment(tokens, 0.0, piece.seconds)) to size
        val isTime = tokens.map { it >= begin }
        val places = (0 until tokens.size - 1).filter { isTime[it] && isTime[it + 1] }.map { it + 1 }
        val singleEnd = isTime.takeLast(2) == listOf(false, true)
        if (places.isEmpty()) {
            val time = tokens.lastOrNull { it >= begin }
            val end = if (time == null || time == begin) piece.seconds else seconds(time)
            return listOf(segment(tokens, 0.0, end)) to size
        }
        val ends = if (singleEnd) places + tokens.size else places
        val found = (listOf(0) + ends).zip(ends).map { (a, b) ->
            val part = tokens.subList(a, b)
            segment(part, seconds(part.first()), seconds(part.last()))
        }
        if (singleEnd) return found to size
        val done = Math.rint(seconds(tokens[ends.last() - 1]) * piece.rate).toInt()
        return found to (if (done > 0) minOf(size, done) else size)
    }

    private fun segment(tokens: List<Int>, from: Double, to: Double) = Segment(from, to, texts.tokenizer.decode(words(tokens)))

    private fun words(tokens: List<Int>): List<Int> = tokens.filter { it < minOf(begin ?: Int.MAX_VALUE, ends.min()) }

    private fun seconds(token: Int): Double = maxOf(0, token - (begin ?: 0)) * SECONDS

    override fun close() {
        decoder.close()
        encoder.close()
    }

    private companion object {
        /** From one time to the next, the latest of the first one, and what is left at a sound's end. */
        const val SECONDS = 0.02
        const val LATEST = 50
        const val LEAST_SECONDS = 0.1
    }
}
