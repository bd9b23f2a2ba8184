package org.edgetfm.core

import java.io.File
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Whatever is wished of it, the screen's model answers with a value or with a message, and never throws. */
class ScreenModelTest {
    @get:Rule
    val place = TemporaryFolder()
    private lateinit var model: ScreenModel

    @Before
    fun open() {
        model = ScreenModel(Store(place.newFolder("store")), place.newFolder("scratch"), mapOf("cpu" to "test"), listOf(Provider.CPU, Provider.XNNPACK))
    }

    @After
    fun close() = model.close()

    private fun <T> value(outcome: Outcome<T>): T = when (outcome) {
        is Outcome.Done -> outcome.value
        is Outcome.Failed -> throw AssertionError(outcome.message)
        is Outcome.Stopped -> throw AssertionError("stopped")
    }

    private fun said(outcome: Outcome<*>, vararg words: String) {
        val message = (outcome as Outcome.Failed).message
        for (word in words) assertTrue("'$word' is not in: $message", word in message)
    }

    private fun openDigits() = value(model.open(FolderOrigin(Laid.bundle("vit-digits"))))

    @Test
    fun aBundleIsOpenedAskedCheckedMeasuredAndShared() {
        openDigits()
        assertEquals(Sense.PICTURE, model.sense)
        val answer = value(model.ask({ Given.OfPicture(Picture(8, 8, 1, ByteArray(64))) }, Provider.CPU)).answer as Answer.Labels
        assertEquals(1f, answer.scores.sumOf { it.second.toDouble() }.toFloat(), 1e-4f)
        val replayed = value(model.check(Provider.CPU))
        assertTrue("${replayed.missed}", replayed.passed)
        val rows = value(model.measure(runs = 3))
        assertEquals(model.providers, rows.map { it.provider })
        assertTrue("$rows", rows.all { it.result != null || !it.note.isNullOrBlank() } && rows.first().result != null)
        val report = Json.parse(value(model.report())) as Map<*, *>
        assertEquals(true, (report["parity"] as Map<*, *>)["passed"])
        assertEquals(rows.size, (report["bench"] as List<*>).size)
        assertEquals("image-classification", (report["bundle"] as Map<*, *>)["task"])
    }

    @Test
    fun withoutABundleEveryWishIsAMessage() {
        said(model.check(Provider.CPU), "no bundle is open")
        said(model.ask({ Given.OfText("a") }, Provider.CPU), "no bundle is open")
        said(model.measure(), "no bundle is open")
        said(model.report(), "no bundle is open")
        assertNull(model.sense)
    }

    @Test
    fun brokenBundlesAreMessages() {
        said(model.open(FolderOrigin(File(place.root, "nowhere"))), "no bundle at nowhere")
        broken("was changed", "sha256") { folder ->
            val graph = folder.walk().first { it.extension == "onnx" }
            graph.writeBytes(graph.readBytes().also { it[it.size / 2] = (it[it.size / 2] + 1).toByte() })
        }
        broken("config.json", "missing") { File(it, "config.json").delete() }
        broken("schema 9", "update the app") { edit(it, "\"schema\": 1", "\"schema\": 9") }
        broken("leaves the bundle's folder") { edit(it, "\"config.json\": {", "\"../config.json\": {") }
        value(model.open(FolderOrigin(Laid.file("broken/unknown-operator"))))
        said(model.ask({ Given.OfText("a") }, Provider.CPU), "cannot load", "NoSuchOperator")
        said(model.check(Provider.CPU), "cannot load")
        assertTrue(value(model.measure(runs = 1)).all { it.result == null && "NoSuchOperator" in it.note!! })
    }

    private fun broken(vararg words: String, damage: (File) -> Unit) {
        val folder = place.newFolder()
        Laid.bundle("vit-digits").copyRecursively(folder, overwrite = true)
        damage(folder)
        said(model.open(FolderOrigin(folder)), *words)
        assertNull(model.bundle)
    }

    private fun edit(folder: File, old: String, new: String) {
        val file = File(folder, Manifest.FILE)
        val text = file.readText()
        assertTrue(old, old in text)
        file.writeText(text.replaceFirst(old, new))
    }

    @Test
    fun whatTheBundleDoesNotTakeIsAMessage() {
        openDigits()
        said(model.ask({ Given.OfText("seven") }, Provider.CPU), "takes pictures")
        val elsewhere = model.ask({ Given.OfPicture(Picture(8, 8, 1, ByteArray(64))) }, Provider.QNN)
        said(elsewhere, "cannot load", Provider.QNN.title)
    }

    @Test
    fun whatCannotBeGivenIsAMessage() {
        openDigits()
        said(model.ask({ throw java.io.FileNotFoundException("picture 7") }, Provider.CPU), "cannot be read", "picture 7")
        said(model.ask({ throw SecurityException("not allowed") }, Provider.CPU), "not allowed")
        said(model.ask({ throw OutOfMemoryError() }, Provider.CPU), "memory of this app is full")
        said(model.ask({ throw ai.onnxruntime.OrtException("no such device") }, Provider.CPU), "no such device")
        said(model.ask({ throw UnsatisfiedLinkError("libcdsprpc.so") }, Provider.CPU), "cannot be loaded", "libcdsprpc.so")
    }

    @Test
    fun whatDoesNotRunWhereItIsAskedToIsSaid() {
        openDigits()
        val row = value(model.measure(runs = 1)).single { it.provider == Provider.XNNPACK }
        val answered = value(model.ask({ Given.OfPicture(Picture(8, 8, 1, ByteArray(64))) }, Provider.XNNPACK))
        val replayed = value(model.check(Provider.XNNPACK))
        assertTrue("${row.note}", Provider.XNNPACK.title in row.note!! && Provider.CPU.title in row.note!!)
        val report = Json.parse(value(model.report())) as Map<*, *>
        val told = listOf("asked", "parity").map { (report[it] as Map<*, *>)["fallback"] }
        assertEquals(List(4) { row.note }, listOf(answered.fallback, replayed.fallback) + told)
        assertNull(value(model.check(Provider.CPU)).fallback)
    }

    @Test
    fun theLibraryIsLoadedAtTheStart() {
        assertEquals(model.providers, value(model.start(emptyList())))
        val all = ScreenModel(Store(place.newFolder()), place.root, emptyMap()).use { value(it.start(emptyList())) }
        assertEquals(Provider.CPU, all.first())
        assertTrue("$all", Provider.XNNPACK in all && Provider.QNN !in all)
    }

    @Test
    fun whatIsStoppedIsStopped() {
        openDigits()
        val cancellation = Cancellation().also { it.cancel() }
        assertEquals(Outcome.Stopped, model.measure(cancellation = cancellation))
        assertEquals(Outcome.Stopped, model.check(Provider.CPU, cancellation))
        assertEquals(Outcome.Stopped, model.open(FolderOrigin(Laid.bundle("minilm-int8")), cancellation))
    }
}
