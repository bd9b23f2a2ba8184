package org.edgetfm.core

import java.io.File

/** What the Python side laid ready for the tests: bundles, and what Hugging Face's libraries answer. */
object Laid {
    private val folder = File(
        System.getProperty("edgetfm.given") ?: throw IllegalStateException(
            "these tests read what `make android` exports: run them by it, or give " +
                "-Dedgetfm.given=FOLDER that it wrote",
        ),
    )

    fun bundles(): List<File> = File(folder, "bundles").listFiles()!!.filter { File(it, Manifest.FILE).isFile }.sorted()

    fun bundle(name: String): File = File(folder, "bundles/$name")

    fun file(name: String): File = File(folder, name)
}
