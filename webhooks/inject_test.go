package webhooks

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"

	"modelrights.dev/modelrights/internal/entitlement"
	"modelrights.dev/modelrights/test/builders"
)

// applyPatch gives the object as the API server makes it of an answer.
func applyPatch(t testing.TB, original, patch []byte) []byte {
	t.Helper()
	if len(patch) == 0 {
		return original
	}
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := decoded.Apply(original)
	if err != nil {
		t.Fatalf("applying %s: %v", patch, err)
	}
	return patched
}

func TestInject(t *testing.T) {
	const variable = "MODELRIGHTS_KEY_FILE"
	longName := strings.Repeat("x", 49) + "y"
	long := builders.License(longName).Repository("registry.example.com/long").Key("k").Obj()
	keyless := builders.License("keyless").Repository("registry.example.com/keyless").Obj()
	objects := []any{
		chat().Obj(), code().Obj(), long, keyless, grantOf("acme-chat"), grantOf("acme-code"), grantOf(longName), grantOf("keyless"),
	}
	// want is the pod as it should be, built by hand.
	tests := map[string]struct{ pod, want *builders.PodBuilder }{
		"a plain pod": {
			server().Container("main", "busybox"), server().Container("main", "busybox"),
		},
		"only the container that uses it": {
			server().InitContainer("fetch", "busybox").Container("main", chatImage).Container("proxy", "busybox"),
			server().InitContainer("fetch", "busybox").Container("main", chatImage).Container("proxy", "busybox").
				KeyVolume("acme-chat", "main").Env("main", variable, "/var/run/modelrights/acme-chat/key"),
		},
		"an init container": {
			server().InitContainer("fetch", chatImage).Container("main", "busybox"),
			server().InitContainer("fetch", chatImage).Container("main", "busybox").
				KeyVolume("acme-chat", "fetch").Env("fetch", variable, "/var/run/modelrights/acme-chat/key"),
		},
		"an image volume": {
			server().Container("main", "busybox").Container("proxy", "busybox").ImageVolume("weights", chatImage, "main"),
			server().Container("main", "busybox").Container("proxy", "busybox").ImageVolume("weights", chatImage, "main").
				KeyVolume("acme-chat", "main").Env("main", variable, "/var/run/modelrights/acme-chat/key"),
		},
		"an image volume that nobody mounts": {
			server().Container("main", "busybox").ImageVolume("weights", chatImage),
			server().Container("main", "busybox").ImageVolume("weights", chatImage),
		},
		"two licences in one container": {
			server().Container("main", codeImage).ImageVolume("weights", chatImage, "main"),
			server().Container("main", codeImage).ImageVolume("weights", chatImage, "main").
				KeyVolume("acme-chat", "main").KeyVolume("acme-code", "main").Env("main", variable, "/var/run/modelrights"),
		},
		"two licences in two containers": {
			server().Container("b", codeImage).Container("a", chatImage),
			server().Container("b", codeImage).Container("a", chatImage).KeyVolume("acme-chat", "a").KeyVolume("acme-code", "b").
				Env("a", variable, "/var/run/modelrights/acme-chat/key").Env("b", variable, "/var/run/modelrights/acme-code/key"),
		},
		"a licence without a key": {
			server().Container("main", "registry.example.com/keyless"), server().Container("main", "registry.example.com/keyless"),
		},
		"one with and one without a key": {
			server().Container("main", "registry.example.com/keyless").ImageVolume("weights", chatImage, "main"),
			server().Container("main", "registry.example.com/keyless").ImageVolume("weights", chatImage, "main").
				KeyVolume("acme-chat", "main").Env("main", variable, "/var/run/modelrights/acme-chat/key"),
		},
		"never an ephemeral container": {
			server().Container("main", "busybox").EphemeralContainer("debug", chatImage),
			server().Container("main", "busybox").EphemeralContainer("debug", chatImage),
		},
		"the variable is there": {
			server().Container("main", chatImage).Env("main", variable, "/elsewhere"),
			server().Container("main", chatImage).Env("main", variable, "/elsewhere").KeyVolume("acme-chat", "main"),
		},
		"the variable goes first": {
			server().Container("main", chatImage).Env("main", "ARGS", "--key=$(MODELRIGHTS_KEY_FILE)"),
			server().Container("main", chatImage).Env("main", variable, "/var/run/modelrights/acme-chat/key").
				Env("main", "ARGS", "--key=$(MODELRIGHTS_KEY_FILE)").KeyVolume("acme-chat", "main"),
		},
		"something is mounted at the path": {
			server().Container("main", chatImage).EmptyDir("scratch").Mount("scratch", "/var/run/modelrights/acme-chat/", "main"),
			server().Container("main", chatImage).EmptyDir("scratch").Mount("scratch", "/var/run/modelrights/acme-chat/", "main").
				KeyVolume("acme-chat").Env("main", variable, "/var/run/modelrights/acme-chat/key"),
		},
		"the pod has the volume, under another name and mounted elsewhere": {
			server().Container("main", chatImage).KeyVolumeNamed("mine", "acme-chat").Mount("mine", "/k", "main"),
			server().Container("main", chatImage).KeyVolumeNamed("mine", "acme-chat").Mount("mine", "/k", "main").
				Mount("mine", "/var/run/modelrights/acme-chat", "main").Env("main", variable, "/var/run/modelrights/acme-chat/key"),
		},
		"the volume's name is taken": {
			server().Container("main", chatImage).EmptyDir("modelrights-acme-chat").EmptyDir("modelrights-acme-chat-2"),
			server().Container("main", chatImage).EmptyDir("modelrights-acme-chat").EmptyDir("modelrights-acme-chat-2").
				KeyVolumeNamed("modelrights-acme-chat-3", "acme-chat").Mount("modelrights-acme-chat-3", "/var/run/modelrights/acme-chat", "main").
				Env("main", variable, "/var/run/modelrights/acme-chat/key"),
		},
		"the volume's name is taken by the key of another licence": {
			server().Container("main", chatImage).KeyVolumeNamed("modelrights-acme-chat", "acme-code"),
			server().Container("main", chatImage).KeyVolumeNamed("modelrights-acme-chat", "acme-code").
				KeyVolumeNamed("modelrights-acme-chat-2", "acme-chat").Mount("modelrights-acme-chat-2", "/var/run/modelrights/acme-chat", "main").
				Env("main", variable, "/var/run/modelrights/acme-chat/key"),
		},
		"the longest name, taken": {
			server().Container("main", "registry.example.com/long").EmptyDir("modelrights-" + longName),
			server().Container("main", "registry.example.com/long").EmptyDir("modelrights-"+longName).
				KeyVolumeNamed("modelrights-"+longName[:49]+"-2", longName).Mount("modelrights-"+longName[:49]+"-2", "/var/run/modelrights/"+longName, "main").
				Env("main", variable, "/var/run/modelrights/"+longName+"/key"),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pod, want := test.pod.Obj(), test.want.Obj()
			licenses := entitlement.DecidePod(entitlement.Pod{Namespace: "ml-prod", Spec: &pod.Spec}, snapshot(t, objects...), now).Licenses()
			got := Inject(pod, licenses)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("injected\n%s\nwant\n%s", raw(t, got.Spec).Raw, raw(t, want.Spec).Raw)
			}
			if !reflect.DeepEqual(pod, test.pod.Obj()) {
				t.Error("the pod itself was changed")
			}
			if again := Inject(got, licenses); !reflect.DeepEqual(again, got) {
				t.Errorf("injecting again gives\n%s", raw(t, again.Spec).Raw)
			}
			asked := entitlement.Pod{Namespace: "ml-prod", Spec: &got.Spec}
			foreign := name == "the volume's name is taken by the key of another licence"
			if refusals := entitlement.DecideKeyVolumes(asked, snapshot(t, objects...), now); len(refusals) > 0 && !foreign {
				t.Errorf("what was injected is refused: %+v", refusals)
			}

			patch, err := json.Marshal(injectionPatch(pod, got))
			if err != nil {
				t.Fatal(err)
			}
			var patched corev1.Pod
			if err := json.Unmarshal(applyPatch(t, raw(t, pod).Raw, patch), &patched); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(&patched, want) {
				t.Errorf("the patch %s gives\n%s\nwant\n%s", patch, raw(t, patched.Spec).Raw, raw(t, want.Spec).Raw)
			}
		})
	}
}

// TestMutateKeepsUnknownFields: an API server newer than this program has fields that it does not know.
func TestMutateKeepsUnknownFields(t *testing.T) {
	const before = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"server","futureMeta":{"a":1}},"spec":{
		"serviceAccountName":"llm","futureSpec":[1,2],"volumes":[],
		"containers":[{"name":"main","image":"registry.example.com/models/chat:2.1","futureContainer":"x",
			"env":[{"name":"A","value":"1","futureEnv":true},{"name":"B","value":"2"}],
			"volumeMounts":[{"name":"v","mountPath":"/v","futureMount":9007199254740993}]}]}}`
	const after = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"server","futureMeta":{"a":1}},"spec":{
		"serviceAccountName":"llm","futureSpec":[1,2],"schedulingGates":[{"name":"modelrights.dev/seat"}],
		"volumes":[{"name":"modelrights-acme-chat","csi":{"driver":"node.modelrights.dev","readOnly":true,"volumeAttributes":{"license":"acme-chat"}}}],
		"containers":[{"name":"main","image":"registry.example.com/models/chat:2.1","futureContainer":"x",
			"env":[{"name":"MODELRIGHTS_KEY_FILE","value":"/var/run/modelrights/acme-chat/key"},{"name":"A","value":"1","futureEnv":true},{"name":"B","value":"2"}],
			"volumeMounts":[{"name":"v","mountPath":"/v","futureMount":9007199254740993},{"name":"modelrights-acme-chat","readOnly":true,"mountPath":"/var/run/modelrights/acme-chat"}]}]}}`
	h := newHooks(t, knows(t, chat().Obj(), grantOf("acme-chat")))
	req := create(t, server())
	req.Object.Raw = []byte(before)
	response := h.mutate.Handle(context.Background(), req)
	if !response.Allowed {
		t.Fatalf("denied: %+v", response.Result)
	}
	got := applyPatch(t, []byte(before), response.Patch)
	if !jsonpatch.Equal(got, []byte(after)) {
		t.Errorf("mutated to\n%s\nwant\n%s", got, after)
	}
	if !strings.Contains(string(got), "9007199254740993") {
		t.Error("a large number lost its precision")
	}
}
