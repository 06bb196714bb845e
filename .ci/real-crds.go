// The server of custom resources that every kube-apiserver has in it, standing alone: whoever asks is of system:masters, and
// everything is allowed.
package main

import (
	"net/http"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	definitions "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/server"
	features "k8s.io/apiserver/pkg/util/openapi"
)

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	stop := server.SetupSignalContext()
	given := options.NewCustomResourceDefinitionsServerOptions(os.Stdout, os.Stderr)
	flags := pflag.NewFlagSet("real-crds", pflag.ExitOnError)
	given.AddFlags(flags)
	check(flags.Parse(os.Args[1:]))
	check(given.ServerRunOptions.ComponentGlobalsRegistry.Set())
	check(given.Complete())
	check(given.Validate())

	config := must(given.Config())
	admin := &authenticator.Response{User: &user.DefaultInfo{
		Name:   "kubernetes-admin",
		Groups: []string{"system:masters", "system:authenticated"},
	}}
	config.GenericConfig.Authentication.Authenticator = authenticator.RequestFunc(
		func(*http.Request) (*authenticator.Response, bool, error) { return admin, true, nil })
	config.GenericConfig.Authorization.Authorizer = authorizerfactory.NewAlwaysAllowAuthorizer()
	config.GenericConfig.OpenAPIConfig = server.DefaultOpenAPIConfig(
		features.GetOpenAPIDefinitionsWithoutDisabledFeatures(definitions.GetOpenAPIDefinitions),
		openapi.NewDefinitionNamer(apiserver.Scheme))
	served := must(config.Complete().New(server.NewEmptyDelegate()))
	check(served.GenericAPIServer.PrepareRun().RunWithContext(stop))
}
