package org.edgetfm.demo

import android.content.ContentResolver
import android.content.res.AssetManager
import android.net.Uri
import android.provider.DocumentsContract
import java.io.FileNotFoundException
import java.io.IOException
import java.io.InputStream
import org.edgetfm.core.Json
import org.edgetfm.core.Origin

/** A bundle that was put into the app by `edgetfm android`. */
class AssetOrigin(private val assets: AssetManager, override val name: String) : Origin {
    override val ships = true

    override fun open(relative: String): InputStream = assets.open("$FOLDER/$name/$relative")

    companion object {
        private const val FOLDER = "bundles"

        /** The bundles in the app, by the list that is written beside them. */
        fun all(assets: AssetManager): List<AssetOrigin> = try {
            val names = Json.parse(assets.open("$FOLDER/bundles.json").use { it.readBytes().toString(Charsets.UTF_8) })
            (names as? List<*>).orEmpty().map { AssetOrigin(assets, it.toString()) }
        } catch (_: IOException) {
            emptyList()
        }
    }
}

/** A folder that a person picked: its files are found by walking down from it, name by name. */
class PickedOrigin(private val resolver: ContentResolver, private val tree: Uri) : Origin {
    override val name: String = DocumentsContract.getTreeDocumentId(tree).substringAfterLast('/').substringAfterLast(':')

    override fun open(relative: String): InputStream {
        try {
            val id = relative.split('/').fold(DocumentsContract.getTreeDocumentId(tree)) { folder, part -> child(folder, part) }
            val stream = resolver.openInputStream(DocumentsContract.buildDocumentUriUsingTree(tree, id))
            return stream ?: throw FileNotFoundException(relative)
        } catch (error: RuntimeException) { // what a provider of documents throws is up to it
            throw IOException("$relative cannot be opened: ${error.message}", error)
        }
    }

    private fun child(folder: String, name: String): String {
        val columns = arrayOf(DocumentsContract.Document.COLUMN_DOCUMENT_ID, DocumentsContract.Document.COLUMN_DISPLAY_NAME)
        val children = DocumentsContract.buildChildDocumentsUriUsingTree(tree, folder)
        resolver.query(children, columns, null, null, null)?.use { cursor ->
            while (cursor.moveToNext()) if (cursor.getString(1) == name) return cursor.getString(0)
        }
        throw FileNotFoundException("there is no $name in the folder")
    }
}
