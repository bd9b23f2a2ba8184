package org.edgetfm.core

/**
 * JSON as plain Kotlin values: Map, List, String, Long or Double, Boolean, null.
 *
 * Written here because Android's own reader is not on the JVM that tests run on.
 */
object Json {
    /** `decimal` reads what is no whole number. */
    fun parse(text: String, decimal: (String) -> Double? = String::toDoubleOrNull): Any? = Reader(text, decimal).document()

    fun write(value: Any?): String = StringBuilder().also { append(it, value) }.toString()

    private fun append(out: StringBuilder, value: Any?) {
        when (value) {
            null -> out.append("null")
            is String -> quote(out, value)
            is Float -> append(out, value.toDouble())
            is Double -> out.append(if (value.isNaN() || value.isInfinite()) "\"$value\"" else "$value")
            is Number, is Boolean -> out.append(value.toString())
            is Map<*, *> -> {
                out.append('{')
                value.entries.forEachIndexed { i, (key, held) ->
                    if (i > 0) out.append(", ")
                    quote(out, key.toString())
                    out.append(": ")
                    append(out, held)
                }
                out.append('}')
            }
            is Iterable<*> -> {
                out.append('[')
                value.forEachIndexed { i, held ->
                    if (i > 0) out.append(", ")
                    append(out, held)
                }
                out.append(']')
            }
            else -> throw IllegalArgumentException("no JSON for ${value::class.java.name}")
        }
    }

    private fun quote(out: StringBuilder, text: String) {
        out.append('"')
        for (c in text) {
            when {
                c == '"' || c == '\\' -> out.append('\\').append(c)
                c == '\n' -> out.append("\\n")
                c < ' ' -> out.append("\\u").append(c.code.toString(16).padStart(4, '0'))
                else -> out.append(c)
            }
        }
        out.append('"')
    }

    private class Reader(private val text: String, private val decimal: (String) -> Double?) {
        private var at = 0
        private var depth = 0

        fun document(): Any? {
            val value = value()
            blank()
            if (at < text.length) fail("something follows the value")
            return value
        }

        private fun value(): Any? {
            blank()
            if (at >= text.length) fail("it ends early")
            return when (val c = text[at]) {
                '{' -> deeper { map() }
                '[' -> deeper { list() }
                '"' -> string()
                't' -> word("true", true)
                'f' -> word("false", false)
                'n' -> word("null", null)
                else -> if (c == '-' || c in '0'..'9') number() else fail("unexpected '$c'")
            }
        }

        private fun <T> deeper(read: () -> T): T {
            if (++depth > DEEPEST) fail("it is nested too deeply")
            return read().also { depth-- }
        }

        private fun map(): Map<String, Any?> {
            val found = LinkedHashMap<String, Any?>()
            at++
            blank()
            if (peek() == '}') return found.also { at++ }
            while (true) {
                blank()
                if (peek() != '"') fail("expected a name")
                val key = string()
                blank()
                if (peek() != ':') fail("expected ':'")
                at++
                found[key] = value()
                blank()
                when (peek()) {
                    ',' -> at++
                    '}' -> return found.also { at++ }
                    else -> fail("expected ',' or '}'")
                }
            }
        }

        private fun list(): List<Any?> {
            val found = ArrayList<Any?>()
            at++
            blank()
            if (peek() == ']') return found.also { at++ }
            while (true) {
                found.add(value())
                blank()
                when (peek()) {
                    ',' -> at++
                    ']' -> return found.also { at++ }
                    else -> fail("expected ',' or ']'")
                }
            }
        }

        private fun string(): String {
            val start = ++at
            while (at < text.length && text[at] != '"' && text[at] != '\\') at++
            if (at < text.length && text[at] == '"') return text.substring(start, at++)
            val out = StringBuilder(text.substring(start, at))
            while (true) {
                if (at >= text.length) fail("a text does not end")
                when (val c = text[at++]) {
                    '"' -> return out.toString()
                    '\\' -> out.append(escaped())
                    else -> out.append(c)
                }
            }
        }

        private fun escaped(): Char {
            if (at >= text.length) fail("a text does not end")
            return when (val c = text[at++]) {
                'n' -> '\n'
                't' -> '\t'
                'r' -> '\r'
                'b' -> '\b'
                'f' -> '\u000C'
                'u' -> {
                    val code = text.substring(at, minOf(at + 4, text.length)).toIntOrNull(16)
                    if (code == null || at + 4 > text.length) fail("\\u needs four digits")
                    at += 4
                    code.toChar()
                }
                '"', '\\', '/' -> c
                else -> fail("unknown escape '\\$c'")
            }
        }

        private fun number(): Number {
            val start = at
            while (at < text.length && text[at] in "+-.eE0123456789") at++
            val word = text.substring(start, at)
            return word.toLongOrNull() ?: decimal(word) ?: fail("'$word' is no number")
        }

        private fun <T> word(word: String, value: T): T {
            if (!text.startsWith(word, at)) fail("unexpected '${text[at]}'")
            at += word.length
            return value
        }

        private fun peek(): Char = if (at < text.length) text[at] else '\u0000'

        private fun blank() {
            while (at < text.length && text[at] in " \n\r\t") at++
        }

        private fun fail(what: String): Nothing = throw Problem("not JSON: $what at character $at")
    }

    private const val DEEPEST = 200
}

/** A JSON object whose values are read with their types; what does not fit is a [Problem]. */
class Fields(val values: Map<*, *>, private val where: String) {
    operator fun contains(name: String): Boolean = values[name] != null

    fun text(name: String): String = get(name, "a text") { it as? String }

    fun textOr(name: String, other: String): String = if (name in this) text(name) else other

    fun whole(name: String): Int = get(name, "a whole number") { number(it) }

    fun wholeOrNull(name: String): Int? = if (name in this) whole(name) else null

    fun real(name: String, other: Double? = null): Double =
        if (name !in this && other != null) other
        else get(name, "a number") { (it as? Number)?.toDouble() }

    fun flag(name: String, other: Boolean): Boolean =
        if (name in this) get(name, "true or false") { it as? Boolean } else other

    fun fields(name: String): Fields =
        Fields(get(name, "an object") { it as? Map<*, *> }, "$where: $name")

    fun fieldsOr(name: String): Fields = if (name in this) fields(name) else Fields(emptyMap<String, Any>(), "$where: $name")

    fun fieldsOrNull(name: String): Fields? = if (name in this) fields(name) else null

    fun list(name: String): List<*> = get(name, "a list") { it as? List<*> }

    fun listOr(name: String): List<*> = if (name in this) list(name) else emptyList<Any>()

    fun wholes(name: String): List<Int> = get(name, "whole numbers") { list ->
        (list as? List<*>)?.map { number(it) ?: return@get null }
    }

    fun texts(name: String): List<String> = get(name, "texts") { list ->
        (list as? List<*>)?.map { it as? String ?: return@get null }
    }

    fun each(name: String): Map<String, Fields> = fields(name).values.entries.associate { (key, held) ->
        val map = held as? Map<*, *> ?: bad("$name.$key", held, "an object")
        key as String to Fields(map, "$where: $name.$key")
    }

    private fun <T : Any> get(name: String, kind: String, read: (Any?) -> T?): T =
        read(values[name]) ?: bad(name, values[name], kind)

    private fun bad(name: String, value: Any?, kind: String): Nothing {
        val shown = value?.toString()?.take(60) ?: "missing"
        throw Problem("$where is malformed: '$name' is $shown, expected $kind")
    }

    private fun number(value: Any?): Int? = (value as? Long)?.takeIf { it in INTS }?.toInt()

    private companion object {
        val INTS = Int.MIN_VALUE.toLong()..Int.MAX_VALUE.toLong()
    }
}
