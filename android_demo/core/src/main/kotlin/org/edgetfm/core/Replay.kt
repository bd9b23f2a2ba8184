package org.edgetfm.core

import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.max
import kotlin.math.sqrt

/** How far one output is from what it should be, over [rows] vectors; as edgetfm's ledger measures it. */
data class Measures(
    val rows: Int,
    val maxAbs: Double,
    val meanAbs: Double,
    val maxError: Double,
    val cosine: Double,
    val worstCosine: Double,
    val agreement: Double,
    val kl: Double,
) {
    fun toJson(): Map<String, Any> = mapOf(
        "rows" to rows, "max_abs" to maxAbs, "mean_abs" to meanAbs, "max_error" to maxError,
        "cosine" to cosine, "worst_cosine" to worstCosine, "agreement" to agreement, "kl" to kl,
    )
}

/** The bundle's vectors answered here, beside what the exporting computer answered. */
data class Replayed(
    val provider: Provider,
    val cases: Int,
    val measures: Map<String, Measures>,
    val missed: List<String>,
    /** What of the graph did not run on the provider, where that was asked. */
    val fallback: String? = null,
) {
    val passed: Boolean get() = missed.isEmpty()
}

/** Collects differences of two answers, row by row, then says how large they are. */
class Comparison {
    private var rows = 0
    private var maxAbs = 0.0
    private var sumAbs = 0.0
    private var count = 0L
    private var largest = 0.0
    private var cosines = 0.0
    private var worst = 1.0
    private var agreed = 0
    private var divergence = 0.0

    fun add(got: FloatArray, wanted: FloatArray, width: Int, counts: (Int) -> Boolean = { true }) {
        if (got.size != wanted.size) throw Problem("${got.size} numbers were answered, expected ${wanted.size}")
        for (row in 0 until got.size / width) if (counts(row)) row(got, wanted, row * width, width)
    }

    private fun row(got: FloatArray, wanted: FloatArray, start: Int, width: Int) {
        var dot = 0.0
        var one = 0.0
        var two = 0.0
        var best = start
        var wantedBest = start
        for (i in start until start + width) {
            val a = got[i].toDouble()
            val b = wanted[i].toDouble()
            val apart = if (a.isNaN() || b.isNaN()) Double.NaN else abs(a - b)
            maxAbs = if (apart.isNaN() || maxAbs.isNaN()) Double.NaN else max(maxAbs, apart)
            sumAbs += apart
            largest = max(largest, abs(b))
            dot += a * b
            one += a * a
            two += b * b
            if (got[i] > got[best]) best = i
            if (wanted[i] > wanted[wantedBest]) wantedBest = i
        }
        val cosine = if (one == 0.0 && two == 0.0) 1.0 else if (one == 0.0 || two == 0.0) 0.0 else dot / (sqrt(one) * sqrt(two))
        rows++
        count += width
        cosines += cosine
        worst = if (cosine.isNaN()) Double.NaN else minOf(worst, cosine)
        if (best == wantedBest) agreed++
        divergence += kl(got, wanted, start, width, got[best].toDouble(), wanted[wantedBest].toDouble())
    }

    private fun kl(got: FloatArray, wanted: FloatArray, start: Int, width: Int, top: Double, wantedTop: Double): Double {
        var sum = 0.0
        var wantedSum = 0.0
        for (i in start until start + width) {
            sum += exp(got[i] - top)
            wantedSum += exp(wanted[i] - wantedTop)
        }
        var found = 0.0
        for (i in start until start + width) {
            val share = exp(wanted[i] - wantedTop) / wantedSum
            found += share * ((wanted[i] - wantedTop - ln(wantedSum)) - (got[i] - top - ln(sum)))
        }
        return max(0.0, found)
    }

    fun measures(): Measures {
        val of = max(1, rows)
        return Measures(
            rows, maxAbs, sumAbs / max(1L, count), maxAbs / max(1.0, largest), cosines / of, worst,
            agreed.toDouble() / of, divergence / of,
        )
    }
}

/** Parity on this device: a bundle brings inputs and what its variant answered where it was made. */
object Replay {
    /** What a variant may differ here from what it answered where it was made: the ledger's bounds. */
    private fun bound(precision: String): Bound = when (precision) {
        "fp32" -> Bound(0.0, 0.0, 1e-4)
        "fp16" -> Bound(0.999, 0.0, 0.05)
        else -> Bound(0.999, 0.995, 0.05)
    }

    private data class Bound(val cosine: Double, val worstCosine: Double, val maxError: Double) {
        /**
         * The same bound, and what is no farther than the variant is from its oracle.
         *
         * One activation that is rounded otherwise moves the range of the next: some layers on every
         * rounding is another, and an output may be as far from itself as from float32.
         */
        fun widened(own: Measures?): Bound = if (own == null) this else Bound(
            minOf(cosine, own.cosine), minOf(worstCosine, own.worstCosine), max(maxError, own.maxError),
        )

        fun misses(name: String, m: Measures): List<String> = listOfNotNull(
            "$name: cosine ${m.cosine}, at least $cosine".takeUnless { m.cosine >= cosine },
            "$name: worst cosine ${m.worstCosine}, at least $worstCosine".takeUnless { m.worstCosine >= worstCosine },
            "$name: max error ${m.maxError}, at most $maxError".takeUnless { m.maxError <= maxError },
        )
    }

    fun run(
        bundle: Bundle,
        provider: Provider = Provider.CPU,
        threads: Int = Provider.usualThreads(),
        cancellation: Cancellation = Cancellation(),
        progress: (done: Int, of: Int) -> Unit = { _, _ -> },
    ): Replayed {
        val file = bundle.asset("vectors.npz") ?: throw Problem("this bundle has no vectors to replay")
        val arrays = Npz.read(file)
        val cases = arrays.keys.mapNotNull { it.substringBefore('.').toIntOrNull() }.distinct().sorted()
        if (cases.isEmpty()) throw Problem("vectors.npz holds no case")
        return Runner.open(bundle, provider, threads).use { runner ->
            val comparisons = HashMap<String, Comparison>()
            val own = HashMap<String, Comparison>()
            cases.forEachIndexed { done, case ->
                cancellation.check()
                progress(done, cases.size)
                val inputs = part(arrays, "$case.inputs.")
                val wanted = part(arrays, "$case.shipped.")
                val got = runner.run(inputs, wanted.keys)
                val mask = inputs["decoder_attention_mask"] ?: inputs["attention_mask"]
                for ((name, tensor) in wanted) {
                    val width = tensor.shape.last().toInt()
                    val counts = counted(tensor, mask)
                    val shipped = tensor.toFloats()
                    comparisons.getOrPut(name) { Comparison() }.add(got.getValue(name).toFloats(), shipped, width, counts)
                    val oracle = arrays["$case.pytorch.$name"] ?: continue
                    own.getOrPut(name) { Comparison() }.add(shipped, oracle.toFloats(), width, counts)
                }
            }
            progress(cases.size, cases.size)
            val measures = comparisons.mapValues { it.value.measures() }
            Replayed(provider, cases.size, measures, missed(bundle, measures, own.mapValues { it.value.measures() }))
        }
    }

    /** Whether a row counts: padding, where the mask is 0, answers nothing that can be used. */
    private fun counted(tensor: Tensor, mask: Tensor?): (Int) -> Boolean {
        val fits = mask != null && tensor.shape.size == 3 && mask.shape.size == 2 && tensor.shape[0] == mask.shape[0] && tensor.shape[1] == mask.shape[1]
        if (!fits) return { true }
        val kept = mask!!.longs()
        return { kept.get(it) != 0L }
    }

    private fun missed(bundle: Bundle, measures: Map<String, Measures>, own: Map<String, Measures>): List<String> {
        val precision = bundle.manifest.precision
        val usual = bound(precision)
        return measures.flatMap { (name, found) ->
            val allowed = if (precision == "fp32" || precision == "fp16") usual else usual.widened(own[name])
            allowed.misses(name, found)
        }
    }

    private fun part(arrays: Map<String, Tensor>, prefix: String): Map<String, Tensor> =
        arrays.filterKeys { it.startsWith(prefix) }.mapKeys { it.key.removePrefix(prefix) }
}
