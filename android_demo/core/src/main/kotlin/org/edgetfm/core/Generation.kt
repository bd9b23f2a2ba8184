package org.edgetfm.core

import java.util.Random
import kotlin.math.exp

/** How text is generated; the names and their meaning are those of edgetfm's options. */
data class GenerationOptions(
    val maxNewTokens: Int = 128,
    val temperature: Double = 0.0,
    val topK: Int = 50,
    val topP: Double = 1.0,
    val repetitionPenalty: Double = 1.0,
    val seed: Long = 0,
    /** Writes on past an end token: to measure, never to read. */
    val endless: Boolean = false,
)

/** Picks the next token: the likeliest, or one drawn from the likely ones. */
internal class Sampler(private val options: GenerationOptions) {
    private val random = Random(options.seed)

    fun pick(logits: FloatArray, said: List<Int>): Int {
        if (options.repetitionPenalty != 1.0) {
            for (token in said.toSet()) {
                val score = logits[token]
                logits[token] = (if (score > 0) score / options.repetitionPenalty else score * options.repetitionPenalty).toFloat()
            }
        }
        if (options.temperature <= 0.0) return likeliest(logits)
        val kept = logits.indices.sortedByDescending { logits[it] }.take(if (options.topK > 0) options.topK else logits.size)
        val best = logits[kept[0]].toDouble()
        val shares = DoubleArray(kept.size) { exp((logits[kept[it]] - best) / options.temperature) }
        val all = shares.sum()
        var held = 0.0
        var count = 0
        while (count < shares.size && (count == 0 || held / all < options.topP)) held += shares[count++]
        var drawn = random.nextDouble() * held
        for (i in 0 until count) {
            drawn -= shares[i]
            if (drawn < 0) return kept[i]
        }
        return kept[count - 1]
    }

    companion object {
        fun likeliest(logits: FloatArray): Int {
            var best = 0
            for (i in logits.indices) if (logits[i] > logits[best]) best = i
            return best
        }
    }
}

/** The text of tokens as they come: never half a character. */
internal class TextStream(private val decode: (List<Int>) -> String, context: List<Int>) {
    private val ids = ArrayList(context.takeLast(LOOK_BACK))
    private var said = decode(ids)

    fun put(token: Int): String {
        ids += token
        val text = decode(ids)
        if (text.endsWith('\uFFFD') || !text.startsWith(said)) return ""
        val piece = text.substring(said.length)
        if (piece.isNotEmpty() && ids.size > 4 * LOOK_BACK) {
            val kept = ids.takeLast(LOOK_BACK)
            ids.clear()
            ids += kept
            said = decode(ids)
        } else {
            said = text
        }
        return piece
    }

    /** What is left at the end, halves of characters too. */
    fun rest(): String = decode(ids).let { if (it.startsWith(said)) it.substring(said.length) else "" }

    private companion object {
        const val LOOK_BACK = 6
    }
}

/** What was generated, and how long it took. */
data class Generated(val tokens: List<Int>, val text: String, val promptTokens: Int, val promptMs: Double, val stepMs: List<Double>) {
    val tokensPerSecond: Double get() = if (stepMs.isEmpty()) 0.0 else 1e3 * stepMs.size / stepMs.sum()
}
