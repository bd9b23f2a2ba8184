package org.edgetfm.demo

import android.content.Context

/** The app with the ONNX Runtime that every phone can load. */
object Flavor {
    /** What has to be done before ONNX Runtime is loaded: nothing. The answer is what a person must know. */
    fun prepare(context: Context): String? = null
}
