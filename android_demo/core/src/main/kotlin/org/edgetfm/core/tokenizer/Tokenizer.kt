package org.edgetfm.core.tokenizer

import java.io.File
import org.edgetfm.core.Fields
import org.edgetfm.core.Json
import org.edgetfm.core.Problem

/** The tokens of a text, and which of a pair's two texts each is of. */
class Encoding(val ids: IntArray, val types: IntArray)

/** Texts to token ids and back, as Hugging Face's tokenizers library does it by the same tokenizer.json. */
class Tokenizer private constructor(said: Fields) {
    private val normalizer = Normalizer.read(said.fieldsOrNull("normalizer"))
    private val preTokenizer = PreTokenizer.read(said.fieldsOrNull("pre_tokenizer"))
    private val model = Model.read(said.fields("model"))
    private val added = AddedTokens(said.listOr("added_tokens").map { Fields(it as Map<*, *>, "tokenizer.json: added_tokens") }, normalizer)
    private val template = Template.read(said.fieldsOrNull("post_processor"), ::id)
    private val decoder = Decoder.read(said.fieldsOrNull("decoder"))
    private val texts = HashMap<Int, String>()

    init {
        model.ids.forEach { (text, id) -> texts[id] = text }
        added.ids.forEach { (text, id) -> texts[id] = text }
    }

    fun id(token: String): Int? = added.ids[token] ?: model.ids[token]

    /** The tokens of a text, or of a pair; cut at `most` tokens, the special ones counted. */
    fun encode(text: String, pair: String? = null, special: Boolean = true, most: Int? = null): Encoding {
        val frame = if (special) template else Template.BARE
        var one = pieces(text)
        var two = pair?.let { pieces(it) }
        if (most != null) {
            val room = most - frame.added(two != null)
            if (room < 1) throw Problem("a text of $most tokens has no room for the special ones")
            val (first, second) = shares(one.size, two?.size ?: 0, room)
            one = one.take(first)
            two = two?.take(second)
        }
        return frame.around(one, two)
    }

    /** The text of tokens; special ones are left out. */
    fun decode(ids: List<Int>): String = decoder.decode(ids.filter { it !in added.special }.mapNotNull { texts[it] })

    /** How many tokens of each text are kept where both have to fit: the longer one is cut first. */
    private fun shares(one: Int, two: Int, room: Int): Pair<Int, Int> {
        if (one + two <= room) return one to two
        val short = minOf(one, two)
        val long = if (short > room) short else maxOf(short, room - short)
        val (a, b) = if (short + long > room) room / 2 to room / 2 + room % 2 else short to long
        return if (one > two) b to a else a to b
    }

    private fun pieces(text: String): List<Int> {
        val found = ArrayList<Int>()
        added.split(text).forEachIndexed { i, part ->
            if (part.id != null) found += part.id
            else for (word in preTokenizer.cut(part.text, first = i == 0)) model.tokens(word, found)
        }
        return found
    }

    companion object {
        fun read(file: File): Tokenizer = try {
            parse(file.readText())
        } catch (problem: Problem) {
            throw Problem("${file.name} cannot be used: ${problem.message}", problem)
        } catch (error: ClassCastException) {
            throw Problem("${file.name} is malformed: ${error.message}", error)
        }

        fun parse(text: String): Tokenizer =
            Tokenizer(Fields(Json.parse(text, ::quickDecimal) as? Map<*, *> ?: throw Problem("it is no JSON object"), "tokenizer.json"))
    }
}

/** Tokens that are found in a text as they stand, before anything else cuts it. */
internal class AddedTokens(said: List<Fields>, private val normalizer: Normalizer) {
    class Part(val text: String, val id: Int?)

    private class Token(said: Fields, normalizer: Normalizer) {
        val id = said.whole("id")
        val normalized = said.flag("normalized", false)
        val text = said.text("content").let { if (normalized) normalizer.normalize(it) else it }
        val single = said.flag("single_word", false)
        val left = said.flag("lstrip", false)
        val right = said.flag("rstrip", false)
    }

    val ids: Map<String, Int> = said.associate { it.text("content") to it.whole("id") }
    val special: Set<Int> = said.filter { it.flag("special", false) }.map { it.whole("id") }.toSet()
    private val tokens = said.map { Token(it, normalizer) }.filter { it.text.isNotEmpty() }
    private val asWritten = byFirst(tokens.filter { !it.normalized })
    private val asNormalized = byFirst(tokens.filter { it.normalized })

    fun split(text: String): List<Part> = cut(text, asWritten).flatMap { part ->
        if (part.id != null) listOf(part) else cut(normalizer.normalize(part.text), asNormalized)
    }

    private fun byFirst(tokens: List<Token>): Map<Char, List<Token>> =
        tokens.sortedByDescending { it.text.length }.groupBy { it.text[0] }

    /** The leftmost and of those the longest, again and again. */
    private fun cut(text: String, known: Map<Char, List<Token>>): List<Part> {
        if (known.isEmpty()) return if (text.isEmpty()) emptyList() else listOf(Part(text, null))
        val parts = ArrayList<Part>()
        var done = 0
        var at = 0
        while (at < text.length) {
            val token = known[text[at]]?.firstOrNull { text.startsWith(it.text, at) }
            if (token == null || (token.single && !alone(text, at, at + token.text.length))) {
                at += token?.text?.length ?: 1
                continue
            }
            var start = at
            var end = at + token.text.length
            if (token.left) while (start > done && Characters.isSpace(text[start - 1].code)) start--
            if (token.right) while (end < text.length && Characters.isSpace(text[end].code)) end++
            if (start > done) parts += Part(text.substring(done, start), null)
            parts += Part(token.text, token.id)
            done = end
            at = end
        }
        if (done < text.length) parts += Part(text.substring(done), null)
        return parts
    }

    private fun alone(text: String, start: Int, end: Int): Boolean =
        (start == 0 || !Characters.isWord(text.codePointBefore(start))) && (end == text.length || !Characters.isWord(text.codePointAt(end)))
}
