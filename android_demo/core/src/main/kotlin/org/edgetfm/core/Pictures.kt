package org.edgetfm.core

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.cos
import kotlin.math.sin

/** A picture: 8 bits a channel, row by row, [channels] values a pixel. */
class Picture(val width: Int, val height: Int, val channels: Int, val values: ByteArray) {
    init {
        require(values.size == width * height * channels)
    }

    /** Grey, by the weights of ITU-R 601-2 in Pillow's fixed point. */
    fun grey(): Picture {
        if (channels == 1) return this
        val found = ByteArray(width * height)
        for (i in found.indices) {
            val (r, g, b) = Triple(at(3 * i), at(3 * i + 1), at(3 * i + 2))
            found[i] = ((r * 19595 + g * 38470 + b * 7471 + 0x8000) shr 16).toByte()
        }
        return Picture(width, height, 1, found)
    }

    fun colour(): Picture {
        if (channels == 3) return this
        return Picture(width, height, 3, ByteArray(3 * values.size) { values[it / 3] })
    }

    internal fun at(index: Int): Int = values[index].toInt() and 0xff

    companion object {
        /** From pixels as Android's bitmaps have them, 0xAARRGGBB; transparency is dropped. */
        fun ofPixels(width: Int, height: Int, pixels: IntArray): Picture {
            val found = ByteArray(3 * pixels.size)
            pixels.forEachIndexed { i, pixel ->
                found[3 * i] = (pixel shr 16).toByte()
                found[3 * i + 1] = (pixel shr 8).toByte()
                found[3 * i + 2] = pixel.toByte()
            }
            return Picture(width, height, 3, found)
        }
    }
}

/** Pillow's resampling to the last bit: each output pixel weighs the input under it, in fixed point. */
class Filter private constructor(private val support: Double, private val weight: (Double) -> Double) {
    fun resize(picture: Picture, width: Int, height: Int): Picture {
        val wide = if (width == picture.width) picture else across(picture, width)
        return if (height == picture.height) wide else down(wide, height)
    }

    private class Weights(val first: IntArray, val of: Array<IntArray>)

    private fun weights(from: Int, to: Int): Weights {
        val scale = from.toDouble() / to
        val wide = maxOf(1.0, scale)
        val reach = support * wide
        val first = IntArray(to)
        val of = Array(to) { at ->
            val center = (at + 0.5) * scale
            val start = maxOf(0, (center - reach + 0.5).toInt())
            val end = minOf(from, (center + reach + 0.5).toInt())
            first[at] = start
            val found = DoubleArray(end - start) { weight((it + start - center + 0.5) / wide) }
            val sum = found.sum()
            IntArray(found.size) { i ->
                val share = (if (sum != 0.0) found[i] / sum else found[i]) * (1 shl PRECISION)
                (if (share < 0) share - 0.5 else share + 0.5).toInt()
            }
        }
        return Weights(first, of)
    }

    private fun across(picture: Picture, width: Int): Picture {
        val weights = weights(picture.width, width)
        val n = picture.channels
        val found = ByteArray(width * picture.height * n)
        for (y in 0 until picture.height) for (x in 0 until width) for (c in 0 until n) {
            val of = weights.of[x]
            var sum = HALF
            var at = (y * picture.width + weights.first[x]) * n + c
            for (share in of) {
                sum += picture.at(at) * share
                at += n
            }
            found[(y * width + x) * n + c] = clipped(sum)
        }
        return Picture(width, picture.height, n, found)
    }

    private fun down(picture: Picture, height: Int): Picture {
        val weights = weights(picture.height, height)
        val line = picture.width * picture.channels
        val found = ByteArray(line * height)
        for (y in 0 until height) for (x in 0 until line) {
            var sum = HALF
            var at = weights.first[y] * line + x
            for (share in weights.of[y]) {
                sum += picture.at(at) * share
                at += line
            }
            found[y * line + x] = clipped(sum)
        }
        return Picture(picture.width, height, picture.channels, found)
    }

    companion object {
        private const val PRECISION = 22
        private const val HALF = 1 shl (PRECISION - 1)

        private fun clipped(sum: Int): Byte = (sum shr PRECISION).coerceIn(0, 255).toByte()

        private fun sinc(x: Double): Double = if (x == 0.0) 1.0 else sin(PI * x) / (PI * x)

        private fun cubic(given: Double): Double {
            val x = abs(given)
            return when {
                x < 1 -> ((CURVE + 2) * x - (CURVE + 3)) * x * x + 1
                x < 2 -> (((x - 5) * x + 8) * x - 4) * CURVE
                else -> 0.0
            }
        }

        private const val CURVE = -0.5

        private val KNOWN = mapOf(
            "box" to Filter(0.5) { if (it > -0.5 && it <= 0.5) 1.0 else 0.0 },
            "bilinear" to Filter(1.0) { maxOf(0.0, 1.0 - abs(it)) },
            "hamming" to Filter(1.0) { x ->
                if (abs(x) >= 1.0) 0.0 else sinc(x) * (0.54 + 0.46 * cos(PI * x))
            },
            "bicubic" to Filter(2.0, ::cubic),
            "lanczos" to Filter(3.0) { x -> if (abs(x) < 3.0) sinc(x) * sinc(x / 3) else 0.0 },
        )

        fun resize(picture: Picture, width: Int, height: Int, filter: String): Picture {
            if (filter == "nearest") return nearest(picture, width, height)
            val known = KNOWN[filter] ?: throw Problem("the bundle resizes by '$filter', known are nearest, ${KNOWN.keys.joinToString()}")
            return known.resize(picture, width, height)
        }

        private fun nearest(picture: Picture, width: Int, height: Int): Picture {
            val n = picture.channels
            val found = ByteArray(width * height * n)
            for (y in 0 until height) for (x in 0 until width) {
                val fromX = ((x + 0.5) * picture.width / width).toInt()
                val fromY = ((y + 0.5) * picture.height / height).toInt()
                for (c in 0 until n) found[(y * width + x) * n + c] = picture.values[(fromY * picture.width + fromX) * n + c]
            }
            return Picture(width, height, n, found)
        }
    }
}

/** Pictures to a graph's input: resize, crop in the middle, scale, and normalize, as the manifest says. */
class ImageReader(said: Fields) {
    private val channels = said.wholeOrNull("channels") ?: 3
    private val rule = said.fieldsOr("resize")
    private val size = if ("size" in said) said.wholes("size") else listOf(1, 1)
    private val filter = said.textOr("resample", "bilinear")
    private val crop = if ("crop" in said) said.wholes("crop") else null
    private val rescale = said.real("rescale", 1.0)
    private val mean = each(said, "mean", 0.0)
    private val std = each(said, "std", 1.0)
    private val order = said.textOr("order", "rgb")

    init {
        if (channels != 1 && channels != 3 || std.any { it == 0.0 } || order !in listOf("rgb", "bgr")) {
            throw Problem("the image preprocessing needs 1 or 3 channels, in the order rgb or bgr, and no std of 0")
        }
    }

    /** float32 [1, channels, height, width]. */
    fun read(given: Picture): Tensor {
        var picture = if (channels == 1) given.grey() else given.colour()
        val (height, width) = target(picture.height, picture.width)
        if (height < 1 || width < 1) throw Problem("a picture of ${given.width} x ${given.height} is too small for this model")
        if (rule.textOr("mode", "none") != "none") picture = Filter.resize(picture, width, height, filter)
        crop?.let { picture = cropped(picture, it[0], it[1]) }
        val area = picture.width * picture.height
        val values = FloatArray(channels * area)
        for (c in 0 until channels) {
            val from = if (order == "bgr") channels - 1 - c else c
            for (i in 0 until area) values[c * area + i] = ((picture.at(i * channels + from) * rescale - mean[c]) / std[c]).toFloat()
        }
        return Tensor.of(values, 1, channels.toLong(), picture.height.toLong(), picture.width.toLong())
    }

    /** As transformers rounds: a long picture's longer side is not made of the rounded edge. */
    private fun target(height: Int, width: Int): Pair<Int, Int> {
        val multiple = rule.wholeOrNull("multiple") ?: 1
        fun down(side: Int) = side - side % multiple
        val (wantedHeight, wantedWidth) = if ("size" in rule) rule.wholes("size") else size
        return when (val mode = rule.textOr("mode", "none")) {
            "exact" -> wantedHeight to wantedWidth
            "none" -> height to width
            "multiple" -> down(height) to down(width)
            "shortest_edge" -> {
                val short = minOf(height, width)
                val long = maxOf(height, width)
                var edge = rule.whole("edge")
                var exact = edge.toDouble()
                val longest = rule.wholeOrNull("longest")
                if (longest != null && long.toDouble() / short * edge > longest) {
                    exact = longest.toDouble() * short / long
                    edge = Math.rint(exact).toInt()
                }
                val scaled = if (short == edge) long else (exact * long / short).toInt()
                if (height <= width) down(edge) to down(scaled) else down(scaled) to down(edge)
            }
            "fit" -> {
                val tall = wantedHeight.toDouble() / height
                val wide = wantedWidth.toDouble() / width
                val scale = if (abs(1 - wide) < abs(1 - tall)) wide else tall
                fun near(side: Int) = (Math.rint(scale * side / multiple) * multiple).toInt()
                near(height) to near(width)
            }
            else -> throw Problem("the bundle resizes by the rule '$mode', which this app does not know")
        }
    }

    private fun cropped(picture: Picture, height: Int, width: Int): Picture {
        val n = picture.channels
        val found = ByteArray(width * height * n)
        val top = start(picture.height, height)
        val left = start(picture.width, width)
        for (y in 0 until height) for (x in 0 until width) {
            val fromY = y + top
            val fromX = x + left
            if (fromY !in 0 until picture.height || fromX !in 0 until picture.width) continue
            for (c in 0 until n) found[(y * width + x) * n + c] = picture.values[(fromY * picture.width + fromX) * n + c]
        }
        return Picture(width, height, n, found)
    }

    /** Where the middle begins; below 0 where zeros stand before what is too small. */
    private fun start(held: Int, wanted: Int): Int = if (wanted > held) -((wanted - held + 1) / 2) else (held - wanted) / 2

    private fun each(said: Fields, name: String, other: Double): DoubleArray {
        val values = (said.values[name] as? List<*>)?.map { (it as Number).toDouble() } ?: listOf(said.real(name, other))
        return DoubleArray(channels) { values.getOrElse(if (values.size == 1) 0 else it) { throw Problem("$name has ${values.size} values for $channels channels") } }
    }
}
