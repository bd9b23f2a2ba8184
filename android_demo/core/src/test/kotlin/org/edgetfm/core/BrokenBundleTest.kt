package org.edgetfm.core

import java.io.File
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Every way in which a bundle can be broken ends in a message that says it, never in a crash. */
class BrokenBundleTest {
    @get:Rule
    val place = TemporaryFolder()

    private fun copied(): File {
        val folder = File(place.root, "bundle")
        Laid.bundle("minilm-int8").copyRecursively(folder)
        return folder
    }

    private fun edit(folder: File, change: (String) -> String): File {
        val file = File(folder, Manifest.FILE)
        file.writeText(change(file.readText()))
        return folder
    }

    private fun said(folder: File, vararg words: String) {
        val problem = assertThrows(Problem::class.java) { Bundle.open(folder) }
        for (word in words) assertTrue("'$word' is not in: ${problem.message}", word in problem.message!!)
    }

    @Test
    fun aChangedByte() {
        val folder = copied()
        val file = File(folder, "tokenizer.json")
        val bytes = file.readBytes()
        bytes[bytes.size / 2] = (bytes[bytes.size / 2] + 1).toByte()
        file.writeBytes(bytes)
        said(folder, "tokenizer.json was changed", "sha256")
    }

    @Test
    fun aMissingFileAndAShortOne() {
        val folder = copied()
        File(folder, "config.json").delete()
        File(folder, "vectors.npz").writeBytes(ByteArray(3))
        said(folder, "config.json is missing", "vectors.npz has 3 bytes, expected")
    }

    @Test
    fun anotherSchema() {
        said(edit(copied()) { it.replaceFirst("\"schema\": 1", "\"schema\": 9") }, "schema 9", "update the app")
        said(edit(File(place.root, "bundle")) { it.replaceFirst("\"schema\": 9", "\"schema\": \"x\"") }, "no valid 'schema'")
    }

    @Test
    fun noJsonAtAll() {
        said(edit(copied()) { it.take(200) }, "not JSON")
        said(edit(File(place.root, "bundle")) { "[".repeat(5000) }, "nested too deeply")
        File(place.root, "bundle/${Manifest.FILE}").delete()
        said(File(place.root, "bundle"), "it has no ${Manifest.FILE}")
    }

    @Test
    fun pathsThatLeaveTheFolder() {
        for (path in listOf("../x", "/etc/hostname", "onnx/../../x", "a\\\\b", "")) {
            val folder = copied()
            said(edit(folder) { it.replaceFirst("\"config.json\": {", "\"$path\": {") }, "leaves the bundle's folder")
            folder.deleteRecursively()
        }
    }

    @Test
    fun aLinkOutOfTheFolder() {
        val folder = copied()
        val outside = place.newFile("outside").also { it.writeText(File(folder, "config.json").readText()) }
        File(folder, "config.json").delete()
        java.nio.file.Files.createSymbolicLink(File(folder, "config.json").toPath(), outside.toPath())
        said(folder, "leaves the bundle's folder")
    }

    @Test
    fun wrongTypesInTheManifest() {
        said(edit(copied()) { it.replaceFirst("\"task\": \"", "\"task\": 3, \"was\": \"") }, "'task' is 3, expected a text")
    }

    @Test
    fun aModelOfAnUnknownOperator() {
        val folder = Laid.file("broken/unknown-operator")
        val problem = assertThrows(Problem::class.java) { Task.open(Bundle.open(folder)) }
        assertTrue(problem.message!!, "cannot load" in problem.message!! && "NoSuchOperator" in problem.message!!)
    }

    @Test
    fun aTaskThatTheAppDoesNotDo() {
        val folder = edit(copied()) { it.replaceFirst("\"task\": \"feature-extraction\"", "\"task\": \"depth-estimation\"") }
        val problem = assertThrows(Problem::class.java) { Task.open(Bundle.open(folder)) }
        assertTrue(problem.message!!, "does not do the task depth-estimation" in problem.message!!)
    }
}
