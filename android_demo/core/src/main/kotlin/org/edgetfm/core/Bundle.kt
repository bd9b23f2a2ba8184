package org.edgetfm.core

import java.io.File
import java.io.IOException
import java.security.MessageDigest

/** A bundle on the disk that was checked: nothing in it was changed, is missing or lies outside. */
class Bundle private constructor(val folder: File, val manifest: Manifest) {
    fun file(relative: String): File = inside(folder, relative)

    /** A file that the manifest lists, or null. */
    fun asset(name: String): File? = if (name in manifest.files) file(name) else null

    fun graph(component: String): File = file(manifest.components.getValue(component).variants.getValue(manifest.precision).file)

    /** The default variant's graphs and weights. */
    val files: Map<String, Entry>
        get() = manifest.components.values.map { it.variants.getValue(manifest.precision) }
            .flatMap { listOfNotNull(it.file, it.data) }.associateWith { manifest.files.getValue(it) }

    /** The size of the default variant's graphs and weights. */
    val bytes: Long get() = files.values.sumOf { it.bytes }

    companion object {
        /** The bundle in a folder, or a [Problem] that lists what is wrong with it. */
        fun open(
            folder: File,
            cancellation: Cancellation = Cancellation(),
            progress: (done: Long, of: Long) -> Unit = { _, _ -> },
        ): Bundle {
            try {
                return checked(folder, cancellation, progress)
            } catch (error: IOException) {
                throw Problem("the bundle ${folder.name} cannot be read: ${error.message}", error)
            }
        }

        private fun checked(folder: File, cancellation: Cancellation, progress: (Long, Long) -> Unit): Bundle {
            val file = File(folder, Manifest.FILE)
            if (!file.isFile) throw Problem("no bundle at ${folder.name}: it has no ${Manifest.FILE}")
            val manifest = Manifest.parse(file.readText())
            val problems = ArrayList<String>()
            val all = manifest.files.values.sumOf { it.bytes }
            var done = 0L
            for ((name, entry) in manifest.files) {
                val listed = inside(folder, name)
                when {
                    !listed.isFile -> problems += "$name is missing"
                    listed.length() != entry.bytes ->
                        problems += "$name has ${listed.length()} bytes, expected ${entry.bytes}"
                    sha256(listed, cancellation) { progress(done + it, all) } != entry.sha256 ->
                        problems += "$name was changed: its sha256 is not the one in ${Manifest.FILE}"
                }
                done += entry.bytes
            }
            if (problems.isNotEmpty()) throw Problem("the bundle ${folder.name} is damaged:\n${listed(problems)}")
            return Bundle(folder, manifest)
        }

        /** A path inside a folder; one that leaves it, by its parts or by a link, is a [Problem]. */
        fun inside(folder: File, relative: String): File {
            val parts = relative.split('/')
            val leaves = relative.isEmpty() || '\\' in relative || '\u0000' in relative ||
                parts.any { it.isEmpty() || it == "." || it == ".." }
            val file = File(folder, relative)
            if (leaves || !file.canonicalPath.startsWith(folder.canonicalPath + File.separator)) {
                throw Problem("the path '$relative' leaves the bundle's folder: it is not read")
            }
            return file
        }

        internal fun sha256(file: File, cancellation: Cancellation, progress: (Long) -> Unit = {}): String {
            val digest = MessageDigest.getInstance("SHA-256")
            val piece = ByteArray(1 shl 18)
            var done = 0L
            file.inputStream().use { stream ->
                while (true) {
                    cancellation.check()
                    val read = stream.read(piece)
                    if (read < 0) break
                    digest.update(piece, 0, read)
                    done += read
                    progress(done)
                }
            }
            return digest.digest().joinToString("") { (it.toInt() and 0xff).toString(16).padStart(2, '0') }
        }
    }
}
