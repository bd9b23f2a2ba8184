package org.edgetfm.core

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.cos
import kotlin.math.exp
import kotlin.math.expm1
import kotlin.math.ln
import kotlin.math.ln1p
import kotlin.math.log10
import kotlin.math.max
import kotlin.math.min
import kotlin.math.pow
import kotlin.math.sin

/** The energies of a sound in bands, [frames, bins], as logarithms; the manifest's `mel` says how. */
class LogMel(said: Fields, private val rate: Int) {
    private val length = said.whole("length")
    private val hop = said.whole("hop")
    private val fft = said.whole("fft")
    private val log = said.text("log")
    private val floor = said.real("floor")
    private val centered = said.flag("centered", true)
    private val scale = said.real("scale", 1.0)
    private val removeMean = said.flag("remove_mean", false)
    private val emphasis = said.real("preemphasis", 0.0)
    private val window = window(said.text("window"), said.flag("periodic", true))
    private val fourier = Fourier(fft)
    val bins = said.whole("bins")
    private val bands = bands(said)

    init {
        val sizes = listOf(length, hop, fft, bins)
        if (sizes.any { it !in 1..4096 } || length > fft || floor <= 0 || log !in listOf("log10", "ln", "db")) {
            throw Problem("the audio preprocessing's mel is malformed: length, hop, fft, bins are $sizes, log is $log")
        }
    }

    fun frames(sound: FloatArray): Array<DoubleArray> {
        val half = if (centered) length / 2 else 0
        if (sound.size <= half || sound.size + 2 * half < length) {
            throw Problem("a sound of ${sound.size} samples is too short: the model needs ${max(half + 1, length)}")
        }
        val count = (sound.size + 2 * half - length) / hop + 1
        val silence = DoubleArray(bins) { logged(0.0) }
        val frame = DoubleArray(fft)
        return Array(count) { number ->
            var any = 0.0
            for (i in 0 until length) {
                frame[i] = mirrored(sound, number * hop + i - half) * scale
                any = max(any, abs(frame[i]))
            }
            if (any == 0.0) silence else bandsOf(frame)
        }
    }

    private fun bandsOf(frame: DoubleArray): DoubleArray {
        if (removeMean) {
            val mean = (0 until length).sumOf { frame[it] } / length
            for (i in 0 until length) frame[i] -= mean
        }
        if (emphasis != 0.0) {
            for (i in length - 1 downTo 1) frame[i] -= emphasis * frame[i - 1]
            frame[0] *= 1 - emphasis
        }
        for (i in 0 until length) frame[i] *= window[i]
        for (i in length until fft) frame[i] = 0.0
        val power = fourier.power(frame)
        return DoubleArray(bins) { band ->
            var sum = 0.0
            val of = bands[band]
            for (i in of.from until of.from + of.shares.size) sum += power[i] * of.shares[i - of.from]
            logged(sum)
        }
    }

    private fun logged(energy: Double): Double {
        val held = max(energy, floor)
        return if (log == "ln") ln(held) else log10(held) * (if (log == "db") 10.0 else 1.0)
    }

    private fun mirrored(sound: FloatArray, at: Int): Double {
        var i = if (at < 0) -at else at
        if (i >= sound.size) i = 2 * (sound.size - 1) - i
        return sound[i].toDouble()
    }

    private fun window(name: String, periodic: Boolean): DoubleArray {
        val points = if (periodic) length else length - 1
        val hann = DoubleArray(length) { 0.5 - 0.5 * cos(2 * PI * it / max(1, points)) }
        return when (name) {
            "hann" -> hann
            "povey" -> DoubleArray(length) { hann[it].pow(0.85) } // Kaldi's own, which is flatter
            else -> throw Problem("the bundle's window is '$name', known are hann and povey")
        }
    }

    private class Band(val from: Int, val shares: DoubleArray)

    private fun bands(said: Fields): Array<Band> {
        val scale = said.text("mel_scale")
        val low = toMel(said.real("low"), scale)
        val high = toMel(said.real("high"), scale)
        val edges = DoubleArray(bins + 2) { low + (high - low) * it / (bins + 1) }
        val hertz = DoubleArray(bins + 2) { fromMel(edges[it], scale) }
        val inMel = said.flag("in_mel", false)
        val corners = if (inMel) edges else hertz
        val points = DoubleArray(fft / 2 + 1) { i ->
            val at = i * (rate.toDouble() / fft)
            if (inMel) toMel(at, scale) else at
        }
        val equal = said.flag("equal_area", false)
        return Array(bins) { band ->
            val shares = DoubleArray(points.size) { i ->
                val left = (points[i] - corners[band]) / (corners[band + 1] - corners[band])
                val right = (corners[band + 2] - points[i]) / (corners[band + 2] - corners[band + 1])
                max(0.0, min(left, right)) * (if (equal) 2.0 / (hertz[band + 2] - hertz[band]) else 1.0)
            }
            val from = shares.indexOfFirst { it > 0 }.coerceAtLeast(0)
            val to = shares.indexOfLast { it > 0 }
            Band(from, if (to < from) DoubleArray(0) else shares.copyOfRange(from, to + 1))
        }
    }

    private companion object {
        /** Slaney's scale is linear up to 1000 Hz (15 mel), logarithmic above. */
        val STEP = ln(6.4) / 27.0

        fun toMel(hertz: Double, scale: String): Double = when (scale) {
            "slaney" -> if (hertz < 1000) hertz * 3 / 200 else 15 + ln(hertz / 1000) / STEP
            else -> round(scale) * ln1p(hertz / 700)
        }

        fun fromMel(mel: Double, scale: String): Double = when (scale) {
            "slaney" -> if (mel < 15) mel * 200 / 3 else 1000 * exp((mel - 15) * STEP)
            else -> 700 * expm1(mel / round(scale))
        }

        /** Mel for each factor of e, as the two toolkits round it. */
        fun round(scale: String): Double = when (scale) {
            "htk" -> 2595 / ln(10.0)
            "kaldi" -> 1127.0
            else -> throw Problem("the bundle's mel scale is '$scale', known are slaney, htk and kaldi")
        }
    }
}

/** A discrete Fourier transform of any size, by the prime factors of it. */
internal class Fourier(private val size: Int) {
    private val cosines = DoubleArray(size) { cos(2 * PI * it / size) }
    private val sines = DoubleArray(size) { -sin(2 * PI * it / size) }
    private val factors = ArrayList<Int>().also { found ->
        var rest = size
        var p = 2
        while (rest > 1) if (rest % p == 0) { found.add(p); rest /= p } else p++
    }

    /** |X|^2 of the frequencies up to the half. */
    fun power(values: DoubleArray): DoubleArray {
        val real = DoubleArray(size)
        val imaginary = DoubleArray(size)
        transform(values, 0, 1, size, 0, real, imaginary, 0)
        return DoubleArray(size / 2 + 1) { real[it] * real[it] + imaginary[it] * imaginary[it] }
    }

    /** Every step-th of the values from `at`, `count` of them, into real and imaginary from `to`. */
    private fun transform(values: DoubleArray, at: Int, step: Int, count: Int, depth: Int, real: DoubleArray, imaginary: DoubleArray, to: Int) {
        if (count == 1) {
            real[to] = values[at]
            imaginary[to] = 0.0
            return
        }
        val radix = factors[depth]
        val part = count / radix
        for (i in 0 until radix) transform(values, at + i * step, step * radix, part, depth + 1, real, imaginary, to + i * part)
        val heldReal = DoubleArray(radix)
        val heldImaginary = DoubleArray(radix)
        for (k in 0 until part) {
            for (i in 0 until radix) {
                heldReal[i] = real[to + i * part + k]
                heldImaginary[i] = imaginary[to + i * part + k]
            }
            for (j in 0 until radix) {
                var a = 0.0
                var b = 0.0
                for (i in 0 until radix) {
                    val turn = (i.toLong() * (k + j * part) % count * (size / count)).toInt()
                    a += heldReal[i] * cosines[turn] - heldImaginary[i] * sines[turn]
                    b += heldReal[i] * sines[turn] + heldImaginary[i] * cosines[turn]
                }
                real[to + j * part + k] = a
                imaginary[to + j * part + k] = b
            }
        }
    }
}
