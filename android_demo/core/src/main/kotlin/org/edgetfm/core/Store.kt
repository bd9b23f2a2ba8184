package org.edgetfm.core

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest

/** Where a bundle comes from that is no folder yet: an app's assets, or what a picker gave. */
interface Origin {
    val name: String

    /** Whether it came with the app: then the app may take its copy away again. */
    val ships: Boolean get() = false

    @Throws(IOException::class)
    fun open(relative: String): InputStream
}

/** The app's own storage: a bundle is copied in once, under the hash of its manifest, and checked. */
class Store(private val root: File) {
    private val shipped = File(root, "shipped")

    fun take(
        origin: Origin,
        cancellation: Cancellation = Cancellation(),
        progress: (done: Long, of: Long) -> Unit = { _, _ -> },
    ): Bundle {
        val text = try {
            origin.open(Manifest.FILE).use { it.readBytes() }
        } catch (error: IOException) {
            throw Problem("no bundle at ${origin.name}: it has no ${Manifest.FILE}", error)
        }
        val manifest = Manifest.parse(String(text, Charsets.UTF_8))
        val folder = File(if (origin.ships) shipped else root, digest(text))
        if (!folder.isDirectory) copy(origin, manifest, text, folder, cancellation, progress)
        return try {
            Bundle.open(folder, cancellation, progress)
        } catch (problem: Problem) {
            folder.deleteRecursively() // what is damaged here may be whole where it came from
            throw problem
        }
    }

    /** Bundles taken in before. */
    fun held(): List<File> = all().filter { File(it, Manifest.FILE).isFile }.sorted()

    /** Takes away what was left half copied, and copies of bundles that the app does not hold any more. */
    fun tidy(current: List<Origin>) {
        all().filter { it.name.endsWith(PART) }.forEach { it.deleteRecursively() }
        val wanted = current.mapNotNull { origin ->
            try {
                origin.open(Manifest.FILE).use { digest(it.readBytes()) }
            } catch (_: IOException) {
                null
            }
        }
        shipped.listFiles().orEmpty().filter { it.name !in wanted }.forEach { it.deleteRecursively() }
    }

    private fun all(): List<File> = listOf(root, shipped).flatMap { it.listFiles().orEmpty().toList() }

    private fun copy(origin: Origin, manifest: Manifest, text: ByteArray, folder: File, cancellation: Cancellation, progress: (Long, Long) -> Unit) {
        val all = manifest.files.values.sumOf { it.bytes }
        val staging = File(folder.parentFile, folder.name + PART)
        staging.deleteRecursively()
        try {
            if (!staging.mkdirs()) throw IOException("no folder can be made in ${root.name}")
            if (root.usableSpace < all) throw Problem("the bundle takes ${all / 1_000_000} MB, there are ${root.usableSpace / 1_000_000} free")
            var done = 0L
            for ((name, entry) in manifest.files) {
                val file = Bundle.inside(staging, name)
                file.parentFile?.mkdirs()
                opened(origin, name).use { from -> file.outputStream().use { to -> pour(from, to, entry.bytes, cancellation) } }
                done += entry.bytes
                progress(done, all)
            }
            File(staging, Manifest.FILE).writeBytes(text)
            if (!staging.renameTo(folder)) throw IOException("${folder.name} cannot be put in place")
        } catch (error: IOException) {
            throw Problem("the bundle ${origin.name} cannot be copied: ${error.message}", error)
        } finally {
            staging.deleteRecursively()
        }
    }

    private fun opened(origin: Origin, name: String): InputStream = try {
        origin.open(name)
    } catch (error: IOException) {
        throw Problem("in the bundle ${origin.name}, $name is missing or cannot be opened: ${error.message}", error)
    }

    /** Copies no more than one byte beyond what is said: that much tells that it is too long. */
    private fun pour(from: InputStream, to: java.io.OutputStream, most: Long, cancellation: Cancellation) {
        val piece = ByteArray(1 shl 18)
        var left = most + 1
        while (left > 0) {
            cancellation.check()
            val read = from.read(piece, 0, minOf(left, piece.size.toLong()).toInt())
            if (read < 0) return
            to.write(piece, 0, read)
            left -= read
        }
    }

    private fun digest(bytes: ByteArray): String = MessageDigest.getInstance("SHA-256").digest(bytes)
        .joinToString("") { (it.toInt() and 0xff).toString(16).padStart(2, '0') }.take(32)

    private companion object {
        const val PART = ".part"
    }
}
