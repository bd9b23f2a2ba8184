package org.edgetfm.demo

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import android.media.AudioFormat
import android.media.AudioRecord
import android.media.ExifInterface
import android.media.MediaRecorder
import android.net.Uri
import java.io.IOException
import org.edgetfm.core.Cancellation
import org.edgetfm.core.Picture
import org.edgetfm.core.Problem
import org.edgetfm.core.Sound

/** Pictures as a person sees them: upright, and no larger than a model can use. */
object Pictures {
    private const val LONGEST = 2048

    @Throws(IOException::class)
    fun read(resolver: ContentResolver, uri: Uri): Bitmap {
        val bounds = BitmapFactory.Options()
        bounds.inJustDecodeBounds = true
        resolver.openInputStream(uri).use { BitmapFactory.decodeStream(it, null, bounds) }
        val options = BitmapFactory.Options()
        options.inSampleSize = 1
        while (maxOf(bounds.outWidth, bounds.outHeight) / options.inSampleSize > LONGEST) options.inSampleSize *= 2
        val bitmap = resolver.openInputStream(uri).use { BitmapFactory.decodeStream(it, null, options) }
            ?: throw Problem("this is no picture that Android can read")
        val turned = turn(resolver, uri) ?: return bitmap
        return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, turned, true)
    }

    fun picture(bitmap: Bitmap): Picture {
        val pixels = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        return Picture.ofPixels(bitmap.width, bitmap.height, pixels)
    }

    /** Cameras write down how they were held instead of turning the pixels. */
    private fun turn(resolver: ContentResolver, uri: Uri): Matrix? {
        val said = resolver.openInputStream(uri)?.use {
            ExifInterface(it).getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)
        }
        val matrix = Matrix()
        when (said) {
            ExifInterface.ORIENTATION_ROTATE_90 -> matrix.postRotate(90f)
            ExifInterface.ORIENTATION_ROTATE_180 -> matrix.postRotate(180f)
            ExifInterface.ORIENTATION_ROTATE_270 -> matrix.postRotate(270f)
            ExifInterface.ORIENTATION_FLIP_HORIZONTAL -> matrix.postScale(-1f, 1f)
            ExifInterface.ORIENTATION_FLIP_VERTICAL -> matrix.postScale(1f, -1f)
            else -> return null
        }
        return matrix
    }
}

/** The microphone: one channel of 16 kHz, until it is stopped or has heard enough. */
object Recorder {
    private const val RATE = 16_000
    const val MOST_SECONDS = 60

    /** Blocks until `enough` is cancelled; `second` is told each second that was heard. */
    fun record(enough: Cancellation, cancellation: Cancellation, second: (Int) -> Unit): Sound {
        val least = AudioRecord.getMinBufferSize(RATE, AudioFormat.CHANNEL_IN_MONO, AudioFormat.ENCODING_PCM_16BIT)
        if (least <= 0) throw Problem("this device has no microphone that records $RATE Hz")
        val recorder = try {
            AudioRecord(MediaRecorder.AudioSource.MIC, RATE, AudioFormat.CHANNEL_IN_MONO, AudioFormat.ENCODING_PCM_16BIT, 4 * least)
        } catch (error: SecurityException) {
            throw Problem("the microphone is not allowed", error)
        }
        try {
            if (recorder.state != AudioRecord.STATE_INITIALIZED) throw Problem("the microphone is in use by another app")
            recorder.startRecording()
            return heard(recorder, least, enough, cancellation, second)
        } finally {
            recorder.release()
        }
    }

    private fun heard(recorder: AudioRecord, size: Int, enough: Cancellation, cancellation: Cancellation, second: (Int) -> Unit): Sound {
        val samples = FloatArray(MOST_SECONDS * RATE)
        val piece = ShortArray(size)
        var count = 0
        while (!enough.asked && count < samples.size) {
            cancellation.check()
            val read = recorder.read(piece, 0, minOf(piece.size, samples.size - count))
            if (read < 0) throw Problem("the microphone stopped: error $read")
            for (i in 0 until read) samples[count + i] = piece[i] / 32768f
            if ((count + read) / RATE > count / RATE) second((count + read) / RATE)
            count += read
        }
        if (count == 0) throw Problem("nothing was recorded")
        return Sound(samples.copyOf(count), RATE)
    }
}
