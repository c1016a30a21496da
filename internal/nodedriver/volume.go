package nodedriver

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"modelrights.dev/modelrights/api/v1alpha1"
	"modelrights.dev/modelrights/internal/keyservice/protocol"
)

// What kubelet says of the pod in a volume's context (CSIDriver.spec.podInfoOnMount and .tokenRequests). Whatever has
// the prefix is kubelet's; the rest are the volume's own attributes.
const (
	contextPrefix       = "csi.storage.k8s.io/"
	contextEphemeral    = contextPrefix + "ephemeral"
	contextPodName      = contextPrefix + "pod.name"
	contextPodNamespace = contextPrefix + "pod.namespace"
	contextPodUID       = contextPrefix + "pod.uid"
	contextTokens       = contextPrefix + "serviceAccount.tokens"
)

// remedyCSIDriver is the remedy where kubelet does not say what it should.
const remedyCSIDriver = "ask your platform team to see that CSIDriver " + v1alpha1.CSIDriverName +
	" is as modelrights installs it (podInfoOnMount, tokenRequests of audience " + protocol.AudiencePod + ")"

// remedyLeaveOut is the remedy where somebody wrote the volume in a form that is not served.
const remedyLeaveOut = "leave the volume out of the pod: it is added to entitled pods where it is needed"

// parsePublish reads from kubelet's call what the key service is to be asked. The error is a gRPC status that quotes no
// token.
func parsePublish(req *csi.NodePublishVolumeRequest, kubeletDir string) (*protocol.ReleaseRequest, error) {
	if req.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the call names no volume")
	}
	if req.GetVolumeCapability() == nil {
		return nil, status.Error(codes.InvalidArgument, "the call names no volume capability")
	}
	if req.GetVolumeCapability().GetMount() == nil {
		return nil, invalid("the volume is wanted as a block device, but it holds files", remedyLeaveOut)
	}
	target := req.GetTargetPath()
	if inside, err := filepath.Rel(kubeletDir, target); err != nil || !filepath.IsLocal(inside) || filepath.Clean(target) != target {
		return nil, invalid("the target is not in kubelet's directory "+kubeletDir, "ask your platform team to set --kubelet-dir of the node driver to kubelet's --root-dir")
	}
	attributes := req.GetVolumeContext()
	if attributes[contextEphemeral] != "true" {
		return nil, invalid("the volume is not an inline volume of a pod", "use no PersistentVolume with driver "+v1alpha1.CSIDriverName+"; "+remedyLeaveOut)
	}
	var unknown []string
	for name := range attributes {
		if name != v1alpha1.VolumeAttributeLicense && !strings.HasPrefix(name, contextPrefix) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, invalid(fmt.Sprintf("the volume has attributes other than %s: %q", v1alpha1.VolumeAttributeLicense, unknown), remedyLeaveOut)
	}
	volume := protocol.Volume{
		PodNamespace: attributes[contextPodNamespace],
		PodName:      attributes[contextPodName],
		PodUID:       attributes[contextPodUID],
		License:      attributes[v1alpha1.VolumeAttributeLicense],
		Handle:       req.GetVolumeId(),
	}
	if volume.License == "" {
		return nil, invalid("the volume names no licence: its attribute "+v1alpha1.VolumeAttributeLicense+" is missing", remedyLeaveOut)
	}
	if volume.PodNamespace == "" || volume.PodName == "" || volume.PodUID == "" {
		return nil, invalid("kubelet does not say which pod the volume is for", remedyCSIDriver)
	}
	token := podToken(req.GetSecrets()[contextTokens])
	if token == "" {
		token = podToken(attributes[contextTokens])
	}
	if token == "" {
		return nil, invalid("kubelet hands over no token of the pod", remedyCSIDriver)
	}
	return &protocol.ReleaseRequest{PodToken: token, Volume: volume}, nil
}

// podToken takes the token of our audience from kubelet's list: JSON, by audience. API servers before 1.35, and those
// whose CSIDriver does not set serviceAccountTokenInSecrets, have it in the context, the others in the secrets.
func podToken(list string) string {
	var tokens map[string]struct {
		Token string `json:"token"`
	}
	if list == "" || json.Unmarshal([]byte(list), &tokens) != nil {
		return ""
	}
	return tokens[protocol.AudiencePod].Token
}

func invalid(message, remedy string) error {
	return status.Errorf(codes.InvalidArgument, "%s: %s; %s", v1alpha1.ReasonKeyVolumeInvalid, message, remedy)
}
