package org.edgetfm.core

/** A bundle's graphs asked for whole inputs at once: what is past is empty. */
class Runner private constructor(private val sessions: Map<String, EdgeSession>) : AutoCloseable {
    /** The outputs by name, of inputs as a bundle's vectors have them. */
    fun run(inputs: Map<String, Tensor>, outputs: Collection<String>): Map<String, Tensor> {
        val single = sessions[Manifest.MODEL]
        if (single != null) return single.run(filled(single.component, inputs), outputs)
        val encoder = sessions.getValue(Manifest.ENCODER)
        val decoder = sessions.getValue(Manifest.DECODER)
        val names = encoder.component.inputs.map { it.name }.toSet()
        val hidden = encoder.run(inputs.filterKeys { it in names }, listOf(HIDDEN)).getValue(HIDDEN)
        val told = HashMap<String, Tensor>()
        told["encoder_hidden_states"] = hidden
        inputs["attention_mask"]?.let { told["encoder_attention_mask"] = it }
        told["input_ids"] = inputs["decoder_input_ids"] ?: throw Problem("no decoder_input_ids are among the inputs")
        told[USE_CACHE] = Tensor.flag(false)
        val taken = decoder.component.inputs.map { it.name }.toSet()
        return decoder.run(filled(decoder.component, told.filterKeys { it in taken }), outputs)
    }

    override fun close() = sessions.values.forEach { it.close() }

    companion object {
        internal const val HIDDEN = "last_hidden_state"
        internal const val USE_CACHE = "use_cache_branch"
        internal const val PAST = "past_key_values"
        internal const val PRESENT = "present"
        internal const val KEEP = "num_logits_to_keep"

        fun open(bundle: Bundle, provider: Provider, threads: Int = Provider.usualThreads()): Runner {
            val opened = LinkedHashMap<String, EdgeSession>()
            try {
                for (name in bundle.manifest.components.keys) opened[name] = EdgeSession.open(bundle, name, provider, threads)
            } catch (problem: Problem) {
                opened.values.forEach { it.close() }
                throw problem
            }
            return Runner(opened)
        }

        /** The inputs, with an empty past for each that the graph wants and nobody gave. */
        internal fun filled(component: Component, inputs: Map<String, Tensor>): Map<String, Tensor> {
            val rows = inputs["input_ids"]?.shape?.first() ?: 1L
            val past = component.inputs.filter { it.name.startsWith(PAST) && it.name !in inputs }
            return inputs + past.associate { spec -> spec.name to nothing(spec, rows) }
        }

        private fun nothing(spec: Spec, rows: Long): Tensor {
            val (_, heads, length, size) = spec.shape.also {
                if (it.size != 4) throw Problem("${spec.name} is no cache this app knows: $it")
            }
            if (heads !is Long || size !is Long || length is Long) {
                throw Problem("${spec.name} is no cache this app knows: ${spec.shape}")
            }
            return Tensor.empty(spec.dtype, rows, heads, 0L, size)
        }
    }
}
