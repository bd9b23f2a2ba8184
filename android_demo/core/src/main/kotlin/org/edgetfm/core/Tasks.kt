package org.edgetfm.core

import kotlin.math.exp
import kotlin.math.sqrt
import kotlin.math.tanh

/** What a bundle is given. */
enum class Sense { TEXT, PICTURE, SOUND }

/** What a person gives: one of three. */
sealed class Given {
    data class OfText(val text: String) : Given()

    data class OfPicture(val picture: Picture) : Given()

    data class OfSound(val sound: Sound) : Given()
}

/** What a bundle answers. */
sealed class Answer {
    data class Labels(val scores: List<Pair<String, Float>>) : Answer()

    data class Vector(val values: FloatArray) : Answer() {
        /** How alike two texts or pictures are, from -1 to 1. */
        fun cosine(other: Vector): Double {
            var dot = 0.0
            var one = 0.0
            var two = 0.0
            for (i in values.indices) {
                dot += values[i] * other.values[i].toDouble()
                one += values[i] * values[i].toDouble()
                two += other.values[i] * other.values[i].toDouble()
            }
            return if (one == 0.0 || two == 0.0) 0.0 else dot / sqrt(one * two)
        }

        override fun equals(other: Any?): Boolean = other is Vector && values.contentEquals(other.values)

        override fun hashCode(): Int = values.contentHashCode()
    }

    data class Text(val text: String, val generated: Generated? = null) : Answer()
}

/** A bundle ready to do its task. */
abstract class Task internal constructor(val sense: Sense) : AutoCloseable {
    /** The answer; of a task that writes, `listener` is told each piece as it comes. */
    abstract fun run(given: Given, cancellation: Cancellation = Cancellation(), listener: (String) -> Unit = {}): Answer

    companion object {
        private val TEXTS = mapOf("text-classification" to "logits", "feature-extraction" to "sentence_embedding")
        private val PICTURES = mapOf("image-classification" to "logits", "image-feature-extraction" to "image_embedding")
        private val SOUNDS = mapOf("audio-classification" to "logits")
        private const val WRITES = "text-generation"
        private const val HEARS = "automatic-speech-recognition"

        /** The tasks that this app does. */
        val KNOWN: List<String> = (TEXTS.keys + PICTURES.keys + SOUNDS.keys + WRITES + HEARS).toList()

        /** What a task takes; of one that this app does not do, a [Problem]. */
        fun sense(task: String): Sense = when (task) {
            in TEXTS, WRITES -> Sense.TEXT
            in PICTURES -> Sense.PICTURE
            in SOUNDS, HEARS -> Sense.SOUND
            else -> throw unknown(task)
        }

        private fun unknown(task: String) = Problem("this app does not do the task $task; it does ${KNOWN.joinToString()}")

        fun open(
            bundle: Bundle,
            provider: Provider = Provider.CPU,
            threads: Int = Provider.usualThreads(),
            options: GenerationOptions = GenerationOptions(),
        ): Task {
            val task = bundle.manifest.task
            val pair = Manifest.ENCODER in bundle.manifest.components
            return when {
                task in TEXTS -> OfTexts(bundle, TEXTS.getValue(task), provider, threads)
                task in PICTURES -> OfPictures(bundle, PICTURES.getValue(task), provider, threads)
                task in SOUNDS -> OfSounds(bundle, SOUNDS.getValue(task), provider, threads)
                task == WRITES -> Writes(Generator(bundle, provider, threads), options)
                task == HEARS && pair -> Hears(Transcriber(bundle, provider, threads))
                else -> throw unknown(task)
            }
        }
    }
}

private class OfTexts(private val bundle: Bundle, private val output: String, provider: Provider, threads: Int) : Task(Sense.TEXT) {
    private val session = EdgeSession.open(bundle, Manifest.MODEL, provider, threads)
    private val texts = Texts(bundle, session.component.inputs)

    override fun run(given: Given, cancellation: Cancellation, listener: (String) -> Unit): Answer {
        val text = (given as? Given.OfText ?: throw Problem("this model takes text")).text
        return answer(bundle, output, session.run(texts.feeds(texts.encode(text)), listOf(output)).getValue(output))
    }

    override fun close() = session.close()
}

private class OfPictures(private val bundle: Bundle, private val output: String, provider: Provider, threads: Int) : Task(Sense.PICTURE) {
    private val session = EdgeSession.open(bundle, Manifest.MODEL, provider, threads)
    private val reader = ImageReader(bundle.manifest.preprocessing.fields("image"))

    override fun run(given: Given, cancellation: Cancellation, listener: (String) -> Unit): Answer {
        val picture = (given as? Given.OfPicture ?: throw Problem("this model takes pictures")).picture
        val inputs = mapOf(session.component.inputs.first().name to reader.read(picture))
        return answer(bundle, output, session.run(inputs, listOf(output)).getValue(output))
    }

    override fun close() = session.close()
}

private class OfSounds(private val bundle: Bundle, private val output: String, provider: Provider, threads: Int) : Task(Sense.SOUND) {
    private val session = EdgeSession.open(bundle, Manifest.MODEL, provider, threads)
    private val reader = AudioReader(bundle.manifest.preprocessing.fields("audio"))

    override fun run(given: Given, cancellation: Cancellation, listener: (String) -> Unit): Answer {
        val sound = (given as? Given.OfSound ?: throw Problem("this model takes sounds")).sound
        val values = reader.read(sound)
        val inputs = session.component.inputs.associate { spec ->
            spec.name to if (spec.name == "attention_mask") ones(values.shape[1]) else values
        }
        return answer(bundle, output, session.run(inputs, listOf(output)).getValue(output))
    }

    private fun ones(count: Long) = Tensor.of(LongArray(count.toInt()) { 1L }, 1, count)

    override fun close() = session.close()
}

private class Writes(private val generator: Generator, private val options: GenerationOptions) : Task(Sense.TEXT) {
    override fun run(given: Given, cancellation: Cancellation, listener: (String) -> Unit): Answer {
        val text = (given as? Given.OfText ?: throw Problem("this model takes text")).text
        return generator.write(text, options, cancellation, listener).let { Answer.Text(it.text, it) }
    }

    override fun close() = generator.close()
}

private class Hears(private val transcriber: Transcriber) : Task(Sense.SOUND) {
    override fun run(given: Given, cancellation: Cancellation, listener: (String) -> Unit): Answer {
        val sound = (given as? Given.OfSound ?: throw Problem("this model takes sounds")).sound
        return Answer.Text(transcriber.transcribe(sound, cancellation) { listener(it.text) })
    }

    override fun close() = transcriber.close()
}

private fun answer(bundle: Bundle, output: String, tensor: Tensor): Answer {
    val values = tensor.toFloats()
    if (output != "logits") return Answer.Vector(values)
    val problem = bundle.asset("config.json")?.let { (Json.parse(it.readText()) as? Map<*, *>)?.get("problem_type") }
    val scores = when {
        problem == "regression" -> values
        problem == "multi_label_classification" || values.size == 1 -> FloatArray(values.size) { (0.5 * (1 + tanh(0.5 * values[it]))).toFloat() }
        else -> softmax(values)
    }
    val labels = bundle.manifest.labels
    return Answer.Labels(scores.indices.sortedByDescending { scores[it] }.map { (labels.getOrNull(it) ?: "LABEL_$it") to scores[it] })
}

private fun softmax(values: FloatArray): FloatArray {
    val best = values.max()
    val shares = DoubleArray(values.size) { exp((values[it] - best).toDouble()) }
    val sum = shares.sum()
    return FloatArray(values.size) { (shares[it] / sum).toFloat() }
}
