package org.edgetfm.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.IntBuffer
import java.nio.LongBuffer

import ai.onnxruntime.OnnxJavaType

/** The element types a bundle's graphs take and give, with the names that a manifest uses. */
enum class Dtype(val word: String, val bytes: Int, val onnx: OnnxJavaType) {
    FLOAT32("float32", 4, OnnxJavaType.FLOAT),
    FLOAT16("float16", 2, OnnxJavaType.FLOAT16),
    INT64("int64", 8, OnnxJavaType.INT64),
    INT32("int32", 4, OnnxJavaType.INT32),
    INT8("int8", 1, OnnxJavaType.INT8),
    UINT8("uint8", 1, OnnxJavaType.UINT8),
    BOOL("bool", 1, OnnxJavaType.BOOL);

    companion object {
        fun named(word: String): Dtype = entries.firstOrNull { it.word == word }
            ?: throw Problem("the type $word is none of ${entries.joinToString { it.word }}")
    }
}

/** Numbers in memory outside the heap, in the machine's byte order, where ONNX Runtime reads them. */
class Tensor(val dtype: Dtype, val shape: LongArray, val data: ByteBuffer) {
    val size: Int get() = count(shape)

    fun floats(): FloatBuffer = view().asFloatBuffer()

    fun longs(): LongBuffer = view().asLongBuffer()

    fun ints(): IntBuffer = view().asIntBuffer()

    fun bytes(): ByteBuffer = view()

    /** The memory of the first so many whole numbers of 8 bytes, not a copy of it. */
    internal fun firstLongs(count: Int): ByteBuffer = view().also { it.limit(8 * count) }.slice()

    /** The values as floats, whatever the type. */
    fun toFloats(): FloatArray = when (dtype) {
        Dtype.FLOAT32 -> FloatArray(size).also { floats().get(it) }
        Dtype.FLOAT16 -> view().asShortBuffer().let { held -> FloatArray(size) { half(held.get(it)) } }
        Dtype.INT64 -> longs().let { held -> FloatArray(size) { held.get(it).toFloat() } }
        Dtype.INT32 -> ints().let { held -> FloatArray(size) { held.get(it).toFloat() } }
        Dtype.UINT8 -> FloatArray(size) { (data.get(it).toInt() and 0xff).toFloat() }
        Dtype.INT8, Dtype.BOOL -> FloatArray(size) { data.get(it).toFloat() }
    }

    private fun view(): ByteBuffer = data.duplicate().order(ByteOrder.nativeOrder()).also { it.rewind() }

    companion object {
        fun empty(dtype: Dtype, vararg shape: Long): Tensor {
            val bytes = count(shape).toLong() * dtype.bytes
            if (bytes > Int.MAX_VALUE) throw Problem("a tensor of $bytes bytes is too large here")
            return Tensor(dtype, shape, ByteBuffer.allocateDirect(bytes.toInt()).order(ByteOrder.nativeOrder()))
        }

        fun of(values: FloatArray, vararg shape: Long): Tensor =
            empty(Dtype.FLOAT32, *shape).also { it.floats().put(values) }

        fun of(values: LongArray, vararg shape: Long): Tensor =
            empty(Dtype.INT64, *shape).also { it.longs().put(values) }

        fun flag(value: Boolean): Tensor = empty(Dtype.BOOL, 1L).also { it.data.put(0, if (value) 1 else 0) }

        internal fun count(shape: LongArray): Int {
            val product = shape.fold(1L) { a, b -> Math.multiplyExact(a, b) }
            if (product < 0 || product > Int.MAX_VALUE) throw Problem("a tensor of $product numbers is too large here")
            return product.toInt()
        }

        /** IEEE half precision to single. */
        internal fun half(bits: Short): Float {
            val b = bits.toInt() and 0xffff
            val sign = (b and 0x8000) shl 16
            val exponent = (b shr 10) and 0x1f
            val fraction = b and 0x3ff
            if (exponent == 0) {
                val small = fraction * (1.0f / (1 shl 24))
                return if (sign != 0) -small else small
            }
            val raised = if (exponent == 31) 255 else exponent + 112
            return Float.fromBits(sign or (raised shl 23) or (fraction shl 13))
        }

        /** Single precision to half, to the nearest, ties to even. */
        internal fun half(value: Float): Short {
            val bits = value.toRawBits()
            val sign = (bits ushr 16) and 0x8000
            val size = bits and 0x7fffffff
            if (size > 0x7f800000) return (sign or 0x7e00).toShort()
            if (size >= 0x477ff000) return (sign or 0x7c00).toShort()
            if (size < 0x38800000) {
                val steps = Math.rint(Math.abs(value.toDouble()) * (1 shl 24)).toInt()
                return (sign or steps).toShort()
            }
            val rounded = size + 0xfff + ((size ushr 13) and 1)
            return (sign or ((rounded - 0x38000000) ushr 13)).toShort()
        }
    }
}
