package org.edgetfm.core

import kotlin.math.exp
import kotlin.math.ln
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** Tokens are drawn as often as their scores say, and only from those that may be drawn. */
class SamplerTest {
    private val scores = floatArrayOf(1f, 3f, 2f, -4f, 2.5f)

    private fun drawn(options: GenerationOptions, said: List<Int> = emptyList()): DoubleArray {
        val sampler = Sampler(options)
        val counts = DoubleArray(scores.size)
        repeat(DRAWS) { counts[sampler.pick(scores.copyOf(), said)]++ }
        return DoubleArray(scores.size) { counts[it] / DRAWS }
    }

    @Test
    fun withoutATemperatureTheLikeliestIsTaken() = assertEquals(1, Sampler(GenerationOptions()).pick(scores.copyOf(), emptyList()))

    @Test
    fun sharesAreThoseOfTheSoftmax() {
        val shares = drawn(GenerationOptions(temperature = 2.0))
        val all = scores.sumOf { exp(it / 2.0) }
        for (i in scores.indices) assertEquals("token $i", exp(scores[i] / 2.0) / all, shares[i], 0.015)
    }

    @Test
    fun onlyTheFirstAreDrawn() {
        assertEquals(setOf(1, 4), found(drawn(GenerationOptions(temperature = 1.0, topK = 2))))
        // Of all, the first holds 0.46, the second 0.28: together they are the first to hold 0.7.
        assertEquals(setOf(1, 4), found(drawn(GenerationOptions(temperature = 1.0, topP = 0.7))))
        assertEquals(setOf(1), found(drawn(GenerationOptions(temperature = 1.0, topP = 0.01))))
    }

    @Test
    fun whatWasSaidIsLessLikely() {
        val sampler = Sampler(GenerationOptions(repetitionPenalty = 2.0))
        assertEquals(4, sampler.pick(scores.copyOf(), listOf(1)))
        assertEquals("below zero it falls, too", 1, sampler.pick(floatArrayOf(-1f, -1.5f), listOf(0)))
    }

    @Test
    fun theSameSeedDrawsTheSame() {
        fun row(seed: Long): List<Int> {
            val sampler = Sampler(GenerationOptions(temperature = 1.0, seed = seed))
            return List(50) { sampler.pick(scores.copyOf(), emptyList()) }
        }
        assertEquals(row(7), row(7))
        assertTrue(row(7) != row(8))
    }

    @Test
    fun aTemperatureMakesLikelyTokensLikelier() {
        val cold = drawn(GenerationOptions(temperature = 0.5))
        val warm = drawn(GenerationOptions(temperature = 2.0))
        assertTrue("${ln(cold[1] / cold[4])} and ${ln(warm[1] / warm[4])}", cold[1] / cold[4] > warm[1] / warm[4])
    }

    private fun found(shares: DoubleArray): Set<Int> = shares.indices.filter { shares[it] > 0 }.toSet()

    private companion object {
        const val DRAWS = 20_000
    }
}
