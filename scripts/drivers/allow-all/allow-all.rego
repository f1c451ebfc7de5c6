# METADATA
# title: Allow everything
# description: For the differential run of drivers' test suites only, where policy must not be what makes a difference.
package sallyport

# METADATA
# entrypoint: true
session := _allow

# METADATA
# entrypoint: true
command := _allow

_allow := {
	"verdict": "allow",
	"rules": [{"id": "drivers.allow_all", "message": "differential run of drivers"}],
	"masks": [],
	"diagnostics": "full",
}
