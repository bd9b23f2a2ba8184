package org.edgetfm.demo

import android.content.Context
import android.content.pm.ApplicationInfo
import android.system.ErrnoException
import android.system.Os

/** The app with Qualcomm's libraries for the NPU. It was compiled, and never run. */
object Flavor {
    /**
     * Tells the NPU's loader where its libraries lie; the answer is what a person must know.
     *
     * They are files there because this flavour is packed so that Android unpacks them: the loader
     * runs outside the app and cannot read an APK.
     */
    fun prepare(context: Context): String? {
        val app: ApplicationInfo = context.applicationInfo
        try {
            Os.setenv("ADSP_LIBRARY_PATH", app.nativeLibraryDir, true)
        } catch (error: ErrnoException) {
            return error.message
        }
        return context.getString(R.string.never_run)
    }
}
