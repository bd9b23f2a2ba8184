package org.edgetfm.core

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** One graph of a bundle, opened by its path so that weights are mapped and never copied into the heap. */
class EdgeSession private constructor(
    private val session: OrtSession,
    val component: Component,
    val provider: Provider,
    /** Values that the graph was given at the start: it reads them where they lie. */
    private val constants: List<OnnxTensor>,
) : AutoCloseable {
    private val environment = environment()

    /** The inputs as tensors of the graph; what is missing or does not fit is a [Problem]. */
    fun run(inputs: Map<String, Tensor>, outputs: Collection<String> = component.outputs.map { it.name }): Map<String, Tensor> {
        val held = HashMap<String, OnnxTensor>()
        try {
            inputs.forEach { (name, tensor) -> held[name] = onnx(tensor) }
            return session.run(held, outputs.toSet()).use { result ->
                outputs.associateWith { copied(result.get(it).get() as OnnxTensor) }
            }
        } catch (error: OrtException) {
            throw Problem("ONNX Runtime could not run the graph: ${error.message}", error)
        } finally {
            held.values.forEach { it.close() }
        }
    }

    /** The logits behind the last token; what is `kept` is written where it is. */
    internal fun last(inputs: Map<String, OnnxTensor>, kept: Map<String, OnnxTensor>): FloatArray = try {
        session.run(inputs, setOf("logits"), kept).use { result -> lastRow(result.get("logits").get() as OnnxTensor) }
    } catch (error: OrtException) {
        throw Problem("ONNX Runtime could not run the graph: ${error.message}", error)
    }

    /** As [run], with tensors of ONNX Runtime's own: nothing is copied, and who asks closes the result. */
    internal fun runRaw(inputs: Map<String, OnnxTensor>, outputs: Set<String>): OrtSession.Result = try {
        session.run(inputs, outputs)
    } catch (error: OrtException) {
        throw Problem("ONNX Runtime could not run the graph: ${error.message}", error)
    }

    internal fun onnx(tensor: Tensor): OnnxTensor =
        OnnxTensor.createTensor(environment, tensor.bytes(), tensor.shape, tensor.dtype.onnx)

    val inputs: Set<String> get() = session.inputNames

    /** Ends profiling and tells provider -> how many nodes of the graph ran on it. */
    internal fun placed(): Map<String, Int> {
        val file = File(session.endProfiling())
        try {
            val ran = HashMap<String, String>()
            for (event in Json.parse(file.readText()) as List<*>) {
                val held = event as? Map<*, *> ?: continue
                val provider = (held["args"] as? Map<*, *>)?.get("provider") as? String ?: continue
                if (held["cat"] == "Node" && provider.isNotEmpty()) ran[held["name"].toString()] = provider
            }
            return ran.values.groupingBy { it }.eachCount()
        } finally {
            file.delete()
        }
    }

    override fun close() {
        session.close()
        constants.forEach { it.close() }
    }

    companion object {
        const val RUNTIME = "1.29.0"

        /** The process's environment: what ONNX Runtime would tell its makers stays on the phone. */
        fun environment(): OrtEnvironment = OrtEnvironment.getEnvironment().also { it.setTelemetry(false) }

        fun open(
            bundle: Bundle,
            component: String,
            provider: Provider = Provider.CPU,
            threads: Int = Provider.usualThreads(),
            profileInto: File? = null,
            constants: Map<String, Tensor> = emptyMap(),
        ): EdgeSession {
            val graph = bundle.graph(component)
            val environment = environment()
            val given = constants.mapValues { (_, value) -> OnnxTensor.createTensor(environment, value.bytes(), value.shape, value.dtype.onnx) }
            try {
                OrtSession.SessionOptions().use { options ->
                    bundle.manifest.configEntries.forEach { (key, value) -> options.addConfigEntry(key, value) }
                    if (profileInto != null) options.enableProfiling(File(profileInto, "profile").path)
                    provider.apply(options, threads)
                    options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR)
                    given.forEach { (name, value) -> options.addInitializer(name, value) }
                    val session = environment.createSession(graph.path, options)
                    val found = bundle.manifest.components.getValue(component)
                    val opened = EdgeSession(session, found, provider, given.values.toList())
                    opened.check(graph.name)
                    return opened
                }
            } catch (error: OrtException) {
                given.values.forEach { it.close() }
                throw Problem(
                    "ONNX Runtime $RUNTIME cannot load ${graph.name} on ${provider.title}: ${error.message}", error,
                )
            }
        }

        /** The last row of [1, n, width]. */
        internal fun lastRow(value: OnnxTensor): FloatArray {
            val width = value.info.shape.last().toInt()
            if (value.info.type != OnnxJavaType.FLOAT) return copied(value).toFloats().let { it.copyOfRange(it.size - width, it.size) }
            val all = value.byteBuffer.order(ByteOrder.nativeOrder()).asFloatBuffer()
            val start = all.capacity() - width
            return FloatArray(width) { all.get(start + it) }
        }

        private fun copied(value: OnnxTensor): Tensor {
            val dtype = Dtype.entries.firstOrNull { it.onnx == value.info.type }
                ?: throw Problem("the graph gives ${value.info.type}, which this app does not read")
            val tensor = Tensor.empty(dtype, *value.info.shape)
            val source: ByteBuffer = value.byteBuffer.order(ByteOrder.nativeOrder())
            source.rewind()
            tensor.bytes().put(source)
            return tensor
        }
    }

    private fun check(file: String) {
        // What has a value in the graph is no input to Java: it can only be given at the start.
        val missing = component.inputs.map { it.name }.toSet() - session.inputNames - Runner.KEEP
        val absent = component.outputs.map { it.name }.toSet() - session.outputNames
        if (missing.isNotEmpty() || absent.isNotEmpty()) {
            close()
            throw Problem("$file has not what ${Manifest.FILE} says of it: ${(missing + absent).joinToString()}")
        }
    }
}
