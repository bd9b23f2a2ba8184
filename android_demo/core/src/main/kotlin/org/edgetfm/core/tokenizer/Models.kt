package org.edgetfm.core.tokenizer

import java.util.PriorityQueue
import org.edgetfm.core.Fields
import org.edgetfm.core.Problem

/** Cuts words into the tokens of a vocabulary: read from tokenizer.json's `model`. */
internal abstract class Model(val ids: Map<String, Int>) {
    abstract fun tokens(word: String, into: MutableList<Int>)

    companion object {
        fun read(said: Fields): Model = when (val type = said.textOr("type", if ("merges" in said) "BPE" else "WordPiece")) {
            "WordPiece" -> WordPiece(
                vocabulary(said), said.textOr("unk_token", "[UNK]"), said.textOr("continuing_subword_prefix", "##"),
                said.wholeOrNull("max_input_chars_per_word") ?: 100,
            )
            "BPE" -> bpe(said)
            "Unigram" -> unigram(said)
            else -> throw Problem("tokenizer.json has the model $type, which this app does not know")
        }

        private fun vocabulary(said: Fields): Map<String, Int> = said.fields("vocab").values.entries.associateTo(HashMap()) { (word, id) ->
            word as String to ((id as? Long)?.toInt() ?: throw Problem("tokenizer.json is malformed: the id of '$word' is $id"))
        }

        private fun bpe(said: Fields): Bpe {
            for (name in listOf("continuing_subword_prefix", "end_of_word_suffix")) {
                if (said.textOr(name, "").isNotEmpty()) throw Problem("tokenizer.json has a $name, which this app does not know")
            }
            val merges = said.list("merges").map { merge ->
                val pair = if (merge is String) merge.split(' ') else (merge as? List<*>)?.map { it.toString() }
                if (pair?.size != 2) throw Problem("tokenizer.json is malformed: a merge is $merge")
                pair[0] to pair[1]
            }
            return Bpe(
                vocabulary(said), merges, if ("unk_token" in said) said.text("unk_token") else null,
                said.flag("fuse_unk", false), said.flag("byte_fallback", false), said.flag("ignore_merges", false),
            )
        }

        private fun unigram(said: Fields): Unigram {
            val pieces = said.list("vocab").map { piece ->
                val (text, score) = (piece as? List<*>)?.takeIf { it.size == 2 }
                    ?: throw Problem("tokenizer.json is malformed: a piece is $piece")
                text as String to (score as Number).toDouble()
            }
            return Unigram(pieces, said.wholeOrNull("unk_id"), said.flag("byte_fallback", false))
        }
    }
}

/** The longest piece that fits, again and again; a word with a part that has none is unknown whole. */
internal class WordPiece(ids: Map<String, Int>, unknown: String, private val prefix: String, private val longest: Int) : Model(ids) {
    private val unknownId = ids[unknown] ?: throw Problem("tokenizer.json has no token '$unknown'")
    private val longestPiece = ids.keys.maxOfOrNull { it.length } ?: 0

    override fun tokens(word: String, into: MutableList<Int>) {
        if (word.codePointCount(0, word.length) > longest) {
            into += unknownId
            return
        }
        val from = into.size
        var start = 0
        while (start < word.length) {
            var end = minOf(word.length, start + longestPiece)
            var found: Int? = null
            while (end > start) {
                val piece = word.substring(start, end)
                found = ids[if (start == 0) piece else prefix + piece]
                if (found != null) break
                end -= if (end - start > 1 && Character.isLowSurrogate(word[end - 1])) 2 else 1
            }
            if (found == null) {
                while (into.size > from) into.removeAt(into.size - 1)
                into += unknownId
                return
            }
            into += found
            start = end
        }
    }
}

/** Byte-pair encoding: of all neighbours that merge, those of the lowest rank, the leftmost first. */
internal class Bpe(
    ids: Map<String, Int>,
    merges: List<Pair<String, String>>,
    unknown: String?,
    private val fuse: Boolean,
    private val byBytes: Boolean,
    private val whole: Boolean,
) : Model(ids) {
    private class Merge(val rank: Int, val id: Int)

    private val unknownId: Int? = unknown?.let { ids[it] ?: throw Problem("tokenizer.json has no token '$it'") }
    private val known = HashMap<Long, Merge>(merges.size * 2)
    private val seen = object : LinkedHashMap<String, IntArray>(1024, 0.75f, true) {
        override fun removeEldestEntry(eldest: MutableMap.MutableEntry<String, IntArray>?): Boolean = size > 10_000
    }

    init {
        merges.forEachIndexed { rank, (left, right) ->
            val both = ids[left + right] ?: throw Problem("tokenizer.json merges '$left' and '$right' to no token")
            known[pair(ids.getValue(left), ids.getValue(right))] = Merge(rank, both)
        }
    }

    override fun tokens(word: String, into: MutableList<Int>) {
        if (word.isEmpty()) return
        val found = synchronized(seen) { seen[word] } ?: merged(word).also {
            if (word.length < 256) synchronized(seen) { seen[word] = it }
        }
        for (id in found) into += id
    }

    private fun merged(word: String): IntArray {
        if (whole) ids[word]?.let { return intArrayOf(it) }
        val symbols = symbols(word)
        val count = symbols.size
        val before = IntArray(count) { it - 1 }
        val after = IntArray(count) { if (it + 1 < count) it + 1 else -1 }
        val queue = PriorityQueue<IntArray>(maxOf(1, count)) { a, b -> if (a[0] != b[0]) a[0].compareTo(b[0]) else a[1].compareTo(b[1]) }
        fun offer(at: Int) {
            val next = if (at >= 0) after[at] else -1
            if (next < 0) return
            known[pair(symbols[at], symbols[next])]?.let { queue.add(intArrayOf(it.rank, at, it.id)) }
        }
        for (i in 0 until count) offer(i)
        val gone = BooleanArray(count)
        while (queue.isNotEmpty()) {
            val (_, at, id) = queue.poll() ?: break
            val next = if (gone[at]) -1 else after[at]
            if (next < 0 || known[pair(symbols[at], symbols[next])]?.id != id) continue
            symbols[at] = id
            gone[next] = true
            after[at] = after[next]
            if (after[at] >= 0) before[after[at]] = at
            offer(before[at])
            offer(at)
        }
        return symbols.filterIndexed { i, _ -> !gone[i] }.toIntArray()
    }

    private fun symbols(word: String): IntArray {
        val found = ArrayList<Int>(word.length)
        var afterUnknown = false
        Characters.each(word) { c ->
            val character = String(Character.toChars(c))
            val id = ids[character]
            val bytes = if (id == null && byBytes) bytes(character, ids) else null
            when {
                id != null -> found += id
                bytes != null -> found += bytes
                unknownId != null && !(fuse && afterUnknown) -> found += unknownId
            }
            afterUnknown = id == null && bytes == null
        }
        return found.toIntArray()
    }

    private fun pair(left: Int, right: Int): Long = (left.toLong() shl 32) or right.toLong()
}

/** The likeliest way to cut a word into pieces, by Viterbi's algorithm. */
internal class Unigram(pieces: List<Pair<String, Double>>, private val unknown: Int?, private val byBytes: Boolean) :
    Model(HashMap<String, Int>().also { ids -> pieces.forEachIndexed { i, piece -> ids[piece.first] = i } }) {
    private val scores = DoubleArray(pieces.size) { pieces[it].second }
    private val longest = pieces.maxOfOrNull { it.first.length } ?: 0
    private val unknownScore = (scores.minOrNull() ?: 0.0) - PENALTY

    override fun tokens(word: String, into: MutableList<Int>) {
        val starts = IntArray(word.length + 1) { -1 }
        val best = DoubleArray(word.length + 1)
        val isUnknown = BooleanArray(word.length + 1)
        var at = 0
        while (at < word.length) {
            val size = Character.charCount(word.codePointAt(at))
            var single = false
            for (end in at + 1..minOf(word.length, at + longest)) {
                val id = ids[word.substring(at, end)] ?: continue
                offer(starts, best, isUnknown, at, end, scores[id], false)
                if (end - at == size) single = true
            }
            if (!single) offer(starts, best, isUnknown, at, at + size, unknownScore, true)
            at += size
        }
        cut(word, starts, isUnknown).forEach { piece -> add(piece, into) }
    }

    private fun offer(starts: IntArray, best: DoubleArray, isUnknown: BooleanArray, at: Int, end: Int, score: Double, unknown: Boolean) {
        val all = best[at] + score
        if (starts[end] >= 0 && all <= best[end]) return
        starts[end] = at
        best[end] = all
        isUnknown[end] = unknown
    }

    /** The pieces in order; neighbours that are unknown are one. */
    private fun cut(word: String, starts: IntArray, isUnknown: BooleanArray): List<String> {
        val found = ArrayList<String>()
        var end = word.length
        while (end > 0) {
            var start = starts[end]
            if (isUnknown[end]) while (start > 0 && isUnknown[start]) start = starts[start]
            found += word.substring(start, end)
            end = start
        }
        return found.asReversed()
    }

    private fun add(piece: String, into: MutableList<Int>) {
        val id = ids[piece]
        val bytes = if (id == null && byBytes) bytes(piece, ids) else null
        when {
            id != null -> into += id
            bytes != null -> into += bytes
            unknown != null -> into += unknown
            else -> throw Problem("the tokenizer knows no '$piece', and no token for what it does not know")
        }
    }

    private companion object {
        const val PENALTY = 10.0
    }
}

/** A text as tokens of its bytes, `<0x41>`; null if the vocabulary lacks one. */
private fun bytes(text: String, ids: Map<String, Int>): List<Int>? = text.toByteArray(Charsets.UTF_8).map { byte ->
    ids["<0x%02X>".format(java.util.Locale.ROOT, byte.toInt() and 0xff)] ?: return null
}
