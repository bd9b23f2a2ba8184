package org.edgetfm.core

import java.io.File
import java.io.FileNotFoundException
import java.io.InputStream
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** The folder of a bundle as an origin that counts what was read of it. */
internal class FolderOrigin(private val folder: File, override val ships: Boolean = false) : Origin {
    var opened = 0
    override val name: String = folder.name

    override fun open(relative: String): InputStream {
        opened++
        val file = File(folder, relative)
        if (!file.isFile) throw FileNotFoundException(relative)
        return file.inputStream()
    }
}

/** A bundle is copied into the app's own storage once, whole or not at all. */
class StoreTest {
    @get:Rule
    val place = TemporaryFolder()
    private lateinit var root: File
    private lateinit var store: Store

    @Before
    fun own() {
        root = place.newFolder("store")
        store = Store(root)
    }

    private fun copied(): File = place.newFolder("source").also { Laid.bundle("vit-digits").copyRecursively(it, overwrite = true) }

    @Test
    fun aBundleIsCopiedOnceAndIsTheSame() {
        val origin = FolderOrigin(Laid.bundle("vit-digits"))
        val told = ArrayList<Long>()
        val bundle = store.take(origin) { done, of -> told += done.also { assertTrue(done <= of) } }
        for (name in bundle.manifest.files.keys) {
            assertTrue(name, File(Laid.bundle("vit-digits"), name).readBytes().contentEquals(bundle.file(name).readBytes()))
        }
        assertEquals(bundle.manifest.files.values.sumOf { it.bytes }, told.last())
        origin.opened = 0
        store.take(origin)
        assertEquals("only the manifest is read again", 1, origin.opened)
        assertEquals(listOf(bundle.folder), store.held())
    }

    @Test
    fun whatIsDamagedIsNotKept() {
        val folder = copied()
        File(folder, "config.json").appendText(" ")
        val problem = assertThrows(Problem::class.java) { store.take(FolderOrigin(folder)) }
        assertTrue(problem.message, "config.json has" in problem.message!!)
        assertEquals(0, root.list()!!.size)
        File(folder, "config.json").delete()
        val missing = assertThrows(Problem::class.java) { store.take(FolderOrigin(folder)) }
        assertTrue(missing.message, "config.json is missing" in missing.message!!)
        assertEquals(0, root.list()!!.size)
    }

    @Test
    fun aPathThatLeavesTheStoreWritesNothing() {
        val folder = copied()
        val manifest = File(folder, Manifest.FILE)
        manifest.writeText(manifest.readText().replaceFirst("\"config.json\": {", "\"../../out\": {"))
        val problem = assertThrows(Problem::class.java) { store.take(FolderOrigin(folder)) }
        assertTrue(problem.message, "leaves the bundle's folder" in problem.message!!)
        assertFalse(File(place.root, "out").exists())
        assertEquals(0, root.list()!!.size)
    }

    @Test
    fun moreThanTheStoreHasRoomForIsRefusedBeforeItIsCopied() {
        val folder = copied()
        val manifest = File(folder, Manifest.FILE)
        manifest.writeText(manifest.readText().replace(Regex("\"bytes\": \\d+"), "\"bytes\": ${1L shl 50}"))
        val origin = FolderOrigin(folder)
        val problem = assertThrows(Problem::class.java) { store.take(origin) }
        assertTrue(problem.message, "free" in problem.message!!)
        assertEquals(1, origin.opened)
    }

    @Test
    fun whatTheAppDoesNotHoldAnyMoreIsTakenAwayAndWhatWasPickedStays() {
        val before = FolderOrigin(Laid.bundle("vit-digits"), ships = true)
        val now = copied()
        File(now, Manifest.FILE).appendText("\n")
        val (old, kept) = listOf(before, FolderOrigin(now, ships = true)).map { store.take(it).folder }
        val picked = store.take(FolderOrigin(Laid.bundle("vit-digits"))).folder
        val half = listOf(File(root, "a.part"), File(kept.parentFile, "b.part")).onEach { File(it, "graphs").mkdirs() }
        store.tidy(listOf(FolderOrigin(now, ships = true), FolderOrigin(File(place.root, "nowhere"), ships = true)))
        assertFalse(old.exists() || half.any { it.exists() })
        assertEquals(setOf(kept, picked), store.held().toSet())
        store.tidy(emptyList())
        assertEquals(listOf(picked), store.held())
    }

    @Test
    fun stoppingLeavesNothingBehind() {
        val cancellation = Cancellation()
        assertThrows(Cancelled::class.java) {
            store.take(FolderOrigin(Laid.bundle("vit-digits")), cancellation) { _, _ -> cancellation.cancel() }
        }
        assertEquals(0, root.list()!!.size)
    }
}
