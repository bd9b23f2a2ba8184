plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "org.edgetfm.demo"
    compileSdk = 36

    defaultConfig {
        applicationId = "org.edgetfm.demo"
        minSdk = 24
        targetSdk = 36
        versionCode = 1
        versionName = "0.1.0"
    }

    flavorDimensions += "runtime"
    productFlavors {
        create("standard") {
            dimension = "runtime"
            ndk {
                abiFilters += listOf("arm64-v8a", "x86_64")
            }
        }
        // For Qualcomm's NPU. It was never run: no such phone was at hand.
        create("qnn") {
            dimension = "runtime"
            applicationIdSuffix = ".qnn"
            ndk {
                abiFilters += "arm64-v8a"
            }
        }
    }

    androidResources {
        // Weights are copied once as they are: compressing them costs time and saves little.
        noCompress += listOf("onnx", "onnx_data", "npz")
    }

    packaging {
        // Libraries lie in the APK uncompressed, on pages of 16 KB.
        jniLibs.useLegacyPackaging = false
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

androidComponents {
    onVariants(selector().withFlavor("runtime" to "qnn")) { variant ->
        // The NPU's loader runs outside the app: it opens files, and not what lies in an APK.
        variant.packaging.jniLibs.useLegacyPackaging.set(true)
    }
}

dependencies {
    implementation(project(":core"))
    "standardImplementation"(libs.onnxruntime.android)
    "qnnImplementation"(libs.onnxruntime.android.qnn)
}
