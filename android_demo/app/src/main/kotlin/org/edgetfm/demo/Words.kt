package org.edgetfm.demo

import android.content.Context
import org.edgetfm.core.Answer
import org.edgetfm.core.Bundle
import org.edgetfm.core.Provider
import org.edgetfm.core.Replayed
import org.edgetfm.core.Row

/** Answers and measurements as a person reads them. */
class Words(private val context: Context) {
    fun ready(name: String, bundle: Bundle): String =
        context.getString(R.string.ready, name, bundle.manifest.task, bundle.manifest.precision, bundle.bytes / 1e6)

    fun answer(answer: Answer): String = when (answer) {
        is Answer.Text -> answer.text
        is Answer.Labels -> answer.scores.take(LABELS).joinToString("\n") { (label, score) -> "%.1f %%  %s".format(100 * score, label) }
        is Answer.Vector -> {
            val first = answer.values.take(LABELS).joinToString(", ") { "%.3f".format(it) }
            context.getString(R.string.vector, answer.values.size, first)
        }
    }

    fun took(answer: Answer, milliseconds: Double, provider: Provider): String {
        val written = (answer as? Answer.Text)?.generated
        return if (written == null) context.getString(R.string.took, milliseconds, provider.title)
        else context.getString(R.string.tokens, written.tokens.size, written.tokensPerSecond, provider.title)
    }

    fun parity(replayed: Replayed): String =
        listOf(badge(replayed), *replayed.missed.toTypedArray(), *listOfNotNull(replayed.fallback).toTypedArray()).joinToString("\n")

    private fun badge(replayed: Replayed): String =
        if (replayed.passed) context.getString(R.string.parity_held, replayed.provider.title, replayed.cases)
        else context.getString(R.string.parity_missed, replayed.provider.title)

    fun heads(): List<String> = listOf(
        context.getString(R.string.provider), context.getString(R.string.latency_p50), context.getString(R.string.latency_p95),
        context.getString(R.string.load), context.getString(R.string.memory),
    )

    fun cells(row: Row): List<String> {
        val latency = row.latency ?: return listOf(row.provider.title)
        return listOf(
            row.provider.title, number(latency["p50"]), number(latency["p95"]),
            number(row.result?.get("load_ms")), number(row.result?.get("peak_memory_mb")),
        )
    }

    private fun number(value: Any?): String = if (value is Number) "%.1f".format(value.toDouble()) else "–"

    private companion object {
        const val LABELS = 5
    }
}
