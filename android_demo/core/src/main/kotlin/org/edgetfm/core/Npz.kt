package org.edgetfm.core

import java.io.File
import java.io.IOException
import java.util.zip.ZipFile

/** Arrays of numpy's .npz files, by name. Only plain numbers are read: nothing is unpickled. */
object Npz {
    fun read(file: File): Map<String, Tensor> = try {
        ZipFile(file).use { zip ->
            zip.entries().asSequence().associate { entry ->
                entry.name.removeSuffix(".npy") to array(entry.name, zip.getInputStream(entry).use { it.readBytes() })
            }
        }
    } catch (error: IOException) {
        throw Problem("${file.name} cannot be read: ${error.message}", error)
    }

    /** numpy.lib.format: magic, version, length of a header, the header, the numbers. */
    private fun array(name: String, bytes: ByteArray): Tensor {
        fun bad(what: String): Nothing = throw Problem("$name is no array of numbers: $what")
        if (bytes.size < 10 || String(bytes, 1, 5, Charsets.US_ASCII) != "NUMPY") bad("no numpy header")
        val wide = bytes[6] >= 2
        fun byte(at: Int) = bytes[at].toInt() and 0xff
        val length = if (wide) byte(8) or (byte(9) shl 8) or (byte(10) shl 16) else byte(8) or (byte(9) shl 8)
        val start = if (wide) 12 else 10
        if (length < 0 || start + length > bytes.size) bad("its header does not end")
        val header = String(bytes, start, length, Charsets.ISO_8859_1)
        val word = between(header, "'descr': '", "'") ?: bad("it has no plain type")
        val dtype = TYPES[word] ?: bad("its type is $word")
        if ("'fortran_order': False" !in header) bad("it is not in C order")
        val shape = (between(header, "'shape': (", ")") ?: bad("it has no shape"))
            .split(',').map { it.trim() }.filter { it.isNotEmpty() }
            .map { it.toLongOrNull() ?: bad("its shape is $it") }.toLongArray()
        val tensor = Tensor.empty(dtype, *shape)
        val held = bytes.size - start - length
        if (held != tensor.size * dtype.bytes) bad("$held bytes for ${tensor.size} numbers of ${dtype.word}")
        tensor.bytes().put(bytes, start + length, held)
        return tensor
    }

    private fun between(text: String, before: String, after: String): String? =
        text.substringAfter(before, "").substringBefore(after, "\u0000").takeIf { before in text && it != "\u0000" }

    private val TYPES = mapOf(
        "<f4" to Dtype.FLOAT32, "<f2" to Dtype.FLOAT16, "<i8" to Dtype.INT64, "<i4" to Dtype.INT32,
        "|i1" to Dtype.INT8, "|u1" to Dtype.UINT8, "|b1" to Dtype.BOOL,
    )
}
