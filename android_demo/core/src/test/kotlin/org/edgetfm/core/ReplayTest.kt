package org.edgetfm.core

import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** The library that ships in the app answers a bundle's vectors as the computer that made it did. */
class ReplayTest {
    @Test
    fun everyBundleRepeatsItsAnswersOnTheCpu() = repeated(Provider.CPU, Laid.bundles())

    @Test
    fun xnnpackRepeatsTheAnswersOfFloatsAndOfIntegers() =
        repeated(Provider.XNNPACK, listOf("whisper", "vit-digits", "minilm-int8").map(Laid::bundle))

    private fun repeated(provider: Provider, folders: List<File>) {
        assertTrue("no bundle was laid ready", folders.isNotEmpty())
        for (folder in folders) {
            val bundle = Bundle.open(folder)
            val replayed = Replay.run(bundle, provider, threads = 1)
            println("${folder.name} on ${provider.title}: ${replayed.cases} cases, ${replayed.measures}")
            assertEquals("${folder.name}: ${replayed.missed}", emptyList<String>(), replayed.missed)
            assertTrue(replayed.cases > 0)
        }
    }
}
