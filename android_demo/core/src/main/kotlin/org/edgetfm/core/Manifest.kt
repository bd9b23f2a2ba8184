package org.edgetfm.core

/** A tensor that a graph takes or gives; an axis is a number, or a name where it is free. */
data class Spec(val name: String, val dtype: Dtype, val shape: List<Any>)

/** One precision of a graph: its file and, where its weights lie beside it, theirs. */
data class Variant(val file: String, val data: String?)

/** One graph of the model, in one or more precisions. */
data class Component(val inputs: List<Spec>, val outputs: List<Spec>, val variants: Map<String, Variant>)

/** What a file of the bundle must be. */
data class Entry(val sha256: String, val bytes: Long)

/** The content of edgetfm.json, schema 1. */
class Manifest private constructor(private val fields: Fields) {
    val task: String = fields.text("task")
    val family: String = fields.text("family")
    val precision: String = fields.text("default")
    val budget: String = fields.textOr("budget", "")
    val components: Map<String, Component> = fields.each("components").mapValues { component(it.value) }
    val files: Map<String, Entry> = fields.each("files").mapValues { (_, held) ->
        Entry(held.text("sha256"), held.real("bytes").toLong())
    }
    val labels: List<String> = if ("labels" in fields) fields.texts("labels") else emptyList()
    val preprocessing: Fields = fields.fieldsOr("preprocessing")
    val generation: Fields = fields.fieldsOr("generation")

    /** Where the weights came from, as the exporter wrote it down. */
    val source: Map<*, *> = fields.fieldsOr("source").values

    /** ONNX Runtime settings that were the fastest where the bundle was made. */
    val configEntries: Map<String, String> = fields.fieldsOr("session").fieldsOr("config_entries").values
        .entries.associate { (key, value) -> key as String to value.toString() }

    private fun component(held: Fields): Component {
        val signature = held.fields("signature")
        return Component(
            specs(signature.list("inputs")),
            specs(signature.list("outputs")),
            held.each("variants").mapValues { (_, variant) ->
                Variant(variant.text("file"), if ("data" in variant) variant.text("data") else null)
            },
        )
    }

    private fun specs(list: List<*>): List<Spec> = list.map { held ->
        val spec = Fields(held as? Map<*, *> ?: throw Problem("$FILE is malformed: a tensor is $held"), FILE)
        Spec(spec.text("name"), Dtype.named(spec.text("dtype")), spec.list("shape").map { it ?: "?" })
    }

    private fun check() {
        val problems = ArrayList<String>()
        if (components.keys != setOf(MODEL) && components.keys != setOf(ENCODER, DECODER)) {
            problems += "its components are ${components.keys.joinToString()}, expected $MODEL alone, " +
                "or $ENCODER and $DECODER: this app runs no others"
        }
        for ((name, component) in components) {
            if (precision !in component.variants) {
                problems += "$name has no variant '$precision', which is the default"
            }
            for (variant in component.variants.values) {
                listOfNotNull(variant.file, variant.data).filter { it !in files }
                    .forEach { problems += "$it is not in the list of files" }
            }
        }
        if (problems.isNotEmpty()) throw Problem("$FILE is malformed:\n${listed(problems)}")
    }

    companion object {
        const val FILE = "edgetfm.json"
        const val SCHEMA = 1
        const val MODEL = "model"
        const val ENCODER = "encoder_model"
        const val DECODER = "decoder_model_merged"

        fun parse(text: String): Manifest {
            val value = try {
                Json.parse(text)
            } catch (problem: Problem) {
                throw Problem("$FILE is ${problem.message}", problem)
            }
            val map = value as? Map<*, *>
            val schema = map?.get("schema") as? Long
            if (map == null || schema == null || schema < 1) {
                throw Problem("$FILE has no valid 'schema' number: this is not a bundle")
            }
            if (schema > SCHEMA) {
                throw Problem("the bundle has schema $schema, this app reads up to $SCHEMA: update the app")
            }
            return Manifest(Fields(map, FILE)).also { it.check() }
        }
    }
}
