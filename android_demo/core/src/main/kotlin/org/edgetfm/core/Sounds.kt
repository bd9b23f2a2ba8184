package org.edgetfm.core

import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.cos
import kotlin.math.max
import kotlin.math.sin
import kotlin.math.sqrt

/** A sound in one channel, from -1 to 1. */
class Sound(val samples: FloatArray, val rate: Int) {
    val seconds: Double get() = samples.size.toDouble() / rate

    /** At another rate: a sinc under a Hann window, cut off below the lower of the two halves. */
    fun at(wanted: Int): Sound {
        if (wanted == rate) return this
        val ratio = wanted.toDouble() / rate
        val cutoff = minOf(1.0, ratio) * 0.95
        val reach = (LOBES / cutoff).toInt() + 1
        val found = FloatArray((samples.size * ratio).toInt()) { number ->
            val center = number / ratio
            val middle = center.toInt()
            var sum = 0.0
            for (i in max(0, middle - reach + 1)..minOf(samples.size - 1, middle + reach)) {
                val x = (i - center) * cutoff
                if (abs(x) >= LOBES) continue
                val sinc = if (x == 0.0) 1.0 else sin(PI * x) / (PI * x)
                sum += samples[i] * sinc * (0.5 + 0.5 * cos(PI * x / LOBES)) * cutoff
            }
            sum.toFloat()
        }
        return Sound(found, wanted)
    }

    companion object {
        private const val LOBES = 32

        /** A RIFF WAVE file of whole numbers (8 to 32 bits) or 32-bit floats; channels are averaged. */
        fun ofWave(stream: InputStream): Sound {
            val bytes = ByteBuffer.wrap(stream.readBytes()).order(ByteOrder.LITTLE_ENDIAN)
            fun bad(what: String): Nothing = throw Problem("this is no WAVE file that can be read: $what")
            fun word(at: Int) = if (at + 4 <= bytes.capacity()) String(ByteArray(4) { bytes.get(at + it) }, Charsets.US_ASCII) else ""
            if (word(0) != "RIFF" || word(8) != "WAVE") bad("it does not begin as one")
            var at = 12
            var format = -1
            while (at + 8 <= bytes.capacity()) {
                val size = bytes.getInt(at + 4)
                if (size < 0) bad("a part has a length below 0")
                if (word(at) == "fmt ") format = at + 8
                if (word(at) == "data" && format >= 0) {
                    return samples(bytes, at + 8, minOf(size, bytes.capacity() - at - 8), format, ::bad)
                }
                at += 8 + size + size % 2
            }
            bad("it holds no sound")
        }

        private fun samples(bytes: ByteBuffer, at: Int, size: Int, format: Int, bad: (String) -> Nothing): Sound {
            val kind = bytes.getShort(format).toInt()
            val channels = bytes.getShort(format + 2).toInt()
            val rate = bytes.getInt(format + 4)
            val bits = bytes.getShort(format + 14).toInt()
            val floats = kind == 3 || (kind == -2 && bytes.getShort(format + 24).toInt() == 3)
            if (channels < 1 || rate < 1 || bits !in listOf(8, 16, 24, 32) || (floats && bits != 32)) {
                bad("$channels channels at $rate Hz with $bits bits")
            }
            val width = bits / 8
            fun value(i: Int): Double = when {
                floats -> bytes.getFloat(i).toDouble()
                width == 1 -> ((bytes.get(i).toInt() and 0xff) - 128) / 128.0
                width == 2 -> bytes.getShort(i) / 32768.0
                width == 3 -> ((bytes.get(i).toInt() and 0xff) or (bytes.getShort(i + 1).toInt() shl 8)) / 8388608.0
                else -> bytes.getInt(i) / 2147483648.0
            }
            val frames = size / (width * channels)
            return Sound(
                FloatArray(frames) { frame ->
                    var sum = 0.0
                    for (c in 0 until channels) sum += value(at + (frame * channels + c) * width)
                    (sum / channels).toFloat()
                },
                rate,
            )
        }
    }
}

/** Sounds to a graph's input, as the manifest's `audio` says; in the order of transformers' extractors. */
class AudioReader(said: Fields) {
    val rate = said.whole("sampling_rate")
    val samples = said.wholeOrNull("samples")
    val least = said.wholeOrNull("least") ?: 1
    private val short = said.textOr("short", "silence")
    private val mel = said.fieldsOrNull("mel")?.let { LogMel(it, rate) }
    private val dropLast = said.flag("drop_last", false)
    private val dynamic = if ("dynamic" in said) said.real("dynamic") else null
    private val frames = said.wholeOrNull("frames")
    private val normalize = said.textOr("normalize", "")
    private val mean = said.real("mean", 0.0)
    private val std = said.real("std", 1.0)
    private val stack = said.wholeOrNull("stack") ?: 1
    private val padding = said.real("padding", 0.0)
    private val layout = said.textOr("layout", "frames")

    init {
        if (layout !in listOf("frames", "bands", "channel") || std == 0.0) {
            throw Problem("the audio preprocessing has the layout '$layout' and the std $std, which this app does not know")
        }
    }

    /** One sound as a batch of one: [1, samples], [1, frames, bands], [1, bands, frames] or [1, 1, frames, bands]. */
    fun read(sound: Sound): Tensor {
        val wave = sound.at(rate).samples
        if (wave.size < least) throw Problem("a sound of ${wave.size} samples is too short: the model needs $least")
        val whole = samples?.let { ofLength(wave, it) } ?: wave
        if (mel == null) {
            val values = DoubleArray(whole.size) { whole[it].toDouble() }
            standardize(arrayOf(values))
            return Tensor.of(FloatArray(values.size) { values[it].toFloat() }, 1, values.size.toLong())
        }
        var rows = mel.frames(whole)
        if (dropLast) rows = rows.copyOfRange(0, rows.size - 1)
        rows = Array(rows.size) { rows[it].copyOf() }
        if (dynamic != null) {
            val least = rows.maxOf { row -> row.max() } - dynamic
            for (row in rows) for (i in row.indices) row[i] = max(row[i], least)
        }
        if (frames != null) rows = Array(frames) { rows.getOrNull(it) ?: DoubleArray(mel.bins) }
        standardize(rows)
        return laid(rows, mel.bins)
    }

    private fun laid(rows: Array<DoubleArray>, bins: Int): Tensor {
        if (layout == "bands") {
            val values = FloatArray(rows.size * bins) { rows[it % rows.size][it / rows.size].toFloat() }
            return Tensor.of(values, 1, bins.toLong(), rows.size.toLong())
        }
        val count = (rows.size + stack - 1) / stack * stack
        val values = FloatArray(count * bins) { i -> (rows.getOrNull(i / bins)?.get(i % bins) ?: padding).toFloat() }
        if (layout == "channel") return Tensor.of(values, 1, 1, rows.size.toLong(), bins.toLong())
        return Tensor.of(values, 1, (count / stack).toLong(), (bins * stack).toLong())
    }

    private fun ofLength(wave: FloatArray, length: Int): FloatArray {
        if (wave.size >= length) return wave.copyOf(length)
        val times = when (short) {
            "repeat" -> length / wave.size + 1
            "repeat-whole" -> length / wave.size
            else -> 1
        }
        return FloatArray(length) { if (it < wave.size * times) wave[it % wave.size] else padding.toFloat() }
    }

    /** Mean 0 and variance 1: by fixed numbers, of the whole sound, or of each band over its frames. */
    private fun standardize(rows: Array<DoubleArray>) {
        when (normalize) {
            "fixed" -> for (row in rows) for (i in row.indices) row[i] = (row[i] - mean) / std
            "sound" -> {
                val count = rows.sumOf { it.size }
                val middle = rows.sumOf { it.sum() } / count
                val spread = sqrt(rows.sumOf { row -> row.sumOf { (it - middle) * (it - middle) } } / count + TINY)
                for (row in rows) for (i in row.indices) row[i] = (row[i] - middle) / spread
            }
            "band" -> {
                if (rows.size < 2) throw Problem("a sound of one frame is too short: its bands have no variance")
                for (band in rows[0].indices) {
                    val middle = rows.sumOf { it[band] } / rows.size
                    val spread = sqrt(rows.sumOf { (it[band] - middle) * (it[band] - middle) } / (rows.size - 1) + TINY)
                    for (row in rows) row[band] = (row[band] - middle) / spread
                }
            }
        }
    }

    private companion object {
        const val TINY = 1e-7
    }
}
