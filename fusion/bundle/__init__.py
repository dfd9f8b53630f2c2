"""The result of a fusion run as files: written, verified, read, viewed and streamed.

Plain library, no Django: `write.write_bundle` writes one bundle, `verify.verify_bundle` checks one
without trusting it, `read_bundle.Bundle` reads one (that file needs numpy alone and travels inside
every bundle), `materialise.write_views` cuts out what other tools want, `download.BundleTar`
streams one.
"""
