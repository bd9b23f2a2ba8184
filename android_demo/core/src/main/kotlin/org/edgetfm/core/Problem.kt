package org.edgetfm.core

/** Something a person can act on: what was given, what is allowed, what to do. Never a crash. */
class Problem(message: String, cause: Throwable? = null) : Exception(message, cause)

/** Several problems as one message, a line each. */
internal fun listed(problems: List<String>): String = problems.joinToString("\n") { "- $it" }

/** Asked between steps of long work: [check] throws [Cancelled] once [cancel] was called. */
class Cancellation {
    @Volatile var asked = false
        private set

    fun cancel() {
        asked = true
    }

    fun check() {
        if (asked) throw Cancelled()
    }
}

/** The work was stopped by whoever asked for it. */
class Cancelled : RuntimeException("stopped")
