package org.edgetfm.core

import java.io.File

/** Where the nodes of a graph really ran, told by profiling one call: asking for a provider proves nothing. */
data class Placement(val asked: Provider, val nodes: Map<String, Int>) {
    val all: Int get() = nodes.values.sum()

    val onAsked: Int get() = nodes[asked.runs] ?: 0

    /** What a person should know: null if every node ran where it was asked to. */
    val fallback: String?
        get() = when (onAsked) {
            all -> null
            0 -> "${asked.title} took none of $all nodes: all ran on ${others()}"
            else -> "${asked.title} took $onAsked of $all nodes, the others ran on ${others()}"
        }

    private fun others(): String = nodes.keys.filter { it != asked.runs }
        .joinToString { name -> Provider.entries.firstOrNull { it.runs == name }?.title ?: name }

    companion object {
        fun measure(bundle: Bundle, component: String, provider: Provider, inputs: Map<String, Tensor>, scratch: File): Placement =
            EdgeSession.open(bundle, component, provider, profileInto = scratch).use { session ->
                session.run(inputs)
                Placement(provider, session.placed())
            }
    }
}
