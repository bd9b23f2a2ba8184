package org.edgetfm.core

import ai.onnxruntime.OrtProvider
import ai.onnxruntime.OrtSession.SessionOptions
import ai.onnxruntime.providers.NNAPIFlags
import java.util.EnumSet

/**
 * Where a graph may run on a phone, and the settings with which that is not a mistake.
 *
 * [runs] is what ONNX Runtime calls it in profiles, by which placement is told.
 */
enum class Provider(val word: String, val title: String, val runs: String, private val needs: OrtProvider) {
    CPU("cpu", "CPU", "CPUExecutionProvider", OrtProvider.CPU),
    XNNPACK("xnnpack", "XNNPACK", "XnnpackExecutionProvider", OrtProvider.XNNPACK),
    NNAPI("nnapi", "NNAPI", "NnapiExecutionProvider", OrtProvider.NNAPI),
    WEBGPU("webgpu", "WebGPU", "WebGpuExecutionProvider", OrtProvider.WEBGPU),
    QNN("qnn", "Qualcomm NPU", "QNNExecutionProvider", OrtProvider.QNN);

    val available: Boolean get() = needs in ai.onnxruntime.OrtEnvironment.getAvailableProviders()

    internal fun apply(options: SessionOptions, threads: Int) {
        when (this) {
            CPU -> options.setIntraOpNumThreads(threads)
            XNNPACK -> {
                // It has a thread pool of its own; ONNX Runtime's beside it, spinning, takes its cores.
                options.setIntraOpNumThreads(1)
                options.addConfigEntry("session.intra_op.allow_spinning", "0")
                options.addXnnpack(mapOf("intra_op_num_threads" to threads.toString()))
            }
            NNAPI -> {
                options.setIntraOpNumThreads(threads)
                // Its own CPU code is slower than ONNX Runtime's: what no accelerator takes is left.
                options.addNnapi(EnumSet.of(NNAPIFlags.CPU_DISABLED))
            }
            WEBGPU -> {
                options.setIntraOpNumThreads(threads)
                options.addWebGPU(emptyMap())
            }
            QNN -> {
                options.setIntraOpNumThreads(threads)
                options.addQnn(mapOf("backend_path" to "libQnnHtp.so", "htp_performance_mode" to "burst"))
            }
        }
    }

    companion object {
        fun named(word: String): Provider = entries.firstOrNull { it.word == word }
            ?: throw Problem("no provider '$word'; there are ${entries.joinToString { it.word }}")

        /** Half the cores at most four: the others of a phone are slow ones that all would wait for. */
        fun usualThreads(cores: Int = Runtime.getRuntime().availableProcessors()): Int = (cores / 2).coerceIn(1, 4)
    }
}
