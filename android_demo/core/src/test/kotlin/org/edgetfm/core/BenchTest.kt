package org.edgetfm.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** What is measured has the form that `edgetfm bench --json` writes, and is what was measured. */
class BenchTest {
    @get:Rule
    val place = TemporaryFolder()

    private fun measured(name: String, provider: Provider = Provider.CPU, runs: Int = 8): Map<*, *> {
        val bundle = Bundle.open(Laid.bundle(name))
        val found = Bench(bundle, provider, threads = 1, runs = runs, sequence = 16).run(place.root, mapOf("cpu" to "test")).result
        assertEquals("scratch files are taken away", 0, place.root.list()!!.size)
        return Json.parse(Json.write(found)) as Map<*, *>
    }

    @Test
    fun theFormIsThatOfTheCommand() {
        val told = (Json.parse(Laid.file("expected/bench.json").readText()) as Map<*, *>)["cases"] as List<*>
        val memory = ArrayList<Double>()
        for (case in told) {
            val wanted = case as Map<*, *>
            val found = measured(wanted["bundle"] as String)
            val result = wanted["result"] as Map<*, *>
            assertEquals(result.keys, found.keys)
            for (same in listOf("model", "files", "bytes", "batch", "precision", "device", "sequence")) assertEquals(same, result[same], found[same])
            assertEquals((result["latency_ms"] as Map<*, *>).keys, (found["latency_ms"] as Map<*, *>).keys)
            assertEquals((result["generation"] as Map<*, *>?)?.keys, (found["generation"] as Map<*, *>?)?.keys)
            memory += (found["peak_memory_mb"] as Number).toDouble()
        }
        assertTrue("a loaded model takes memory: $memory", memory.max() > 0)
    }

    @Test
    fun timesAreInOrder() {
        val latency = measured("vit-digits", runs = 30)["latency_ms"] as Map<*, *>
        val (least, middle, late) = listOf("min", "p50", "p95").map { (latency[it] as Number).toDouble() }
        assertTrue("$latency", 0 < least && least <= middle && middle <= late)
    }

    @Test
    fun percentilesLieBetweenTheNearest() {
        assertEquals(2.5, Bench.percentile(listOf(1.0, 2.0, 3.0, 4.0), 0.5), 1e-12)
        assertEquals(3.85, Bench.percentile(listOf(1.0, 2.0, 3.0, 4.0), 0.95), 1e-12)
        assertEquals(7.0, Bench.percentile(listOf(7.0), 0.95), 1e-12)
    }

    @Test
    fun anotherProviderTellsWhichNodesItTook() {
        val bundle = Bundle.open(Laid.bundle("vit-digits"))
        val placement = Bench(bundle, Provider.XNNPACK, threads = 1).placement(place.root)
        assertTrue("$placement", placement.all > 0)
        val note = placement.fallback
        assertTrue("$note", (note == null) == (placement.onAsked == placement.all))
        assertEquals(setOf(Provider.CPU.runs), Bench(bundle, Provider.CPU, threads = 1).placement(place.root).nodes.keys)
    }

    @Test
    fun itStopsWhenAsked() {
        val cancellation = Cancellation().also { it.cancel() }
        assertThrows(Cancelled::class.java) {
            Bench(Bundle.open(Laid.bundle("vit-digits")), Provider.CPU, cancellation = cancellation).run(place.root)
        }
    }
}
