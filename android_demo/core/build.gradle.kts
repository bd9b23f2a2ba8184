import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

kotlin {
    jvmToolchain(17)
    compilerOptions {
        // Android 7 has the classes of Java 8: what is newer must not compile.
        jvmTarget = JvmTarget.JVM_1_8
        freeCompilerArgs.add("-Xjdk-release=8")
        allWarningsAsErrors = true
    }
}

dependencies {
    // The app brings the library for Android, tests the one for this computer.
    compileOnly(libs.onnxruntime)
    testImplementation(libs.onnxruntime)
    testImplementation(libs.junit)
}

tasks.test {
    systemProperty("edgetfm.given", providers.gradleProperty("edgetfm.given").getOrElse(""))
    onlyIf("-Pedgetfm.given=FOLDER names what `make android` laid ready") {
        providers.gradleProperty("edgetfm.given").isPresent
    }
}
