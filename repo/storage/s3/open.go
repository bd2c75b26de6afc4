package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
)

var (
	// ErrURI: the URI of a bucket is invalid. The error does not contain the URI, since
	// it may contain credentials by mistake.
	ErrURI = errors.New("invalid URI of a bucket")
	// ErrNoConditions: the store ignores the conditions of writes, so that concurrent
	// publishers would overwrite each other's files.
	ErrNoConditions = errors.New("the store ignores conditional writes")
)

// Options configures [Open].
type Options struct {
	// HTTPClient sends the requests. nil: a client that uses the proxy of the
	// environment and keeps up to 64 idle connections.
	HTTPClient *http.Client
	// Credentials signs the requests. nil: the default chain of the SDK (environment,
	// shared files, web identity, container, instance).
	Credentials aws.CredentialsProvider
	// Parallel is the number of parts that one Create or Copy of a large file transfers
	// at the same time, 8 MiB each. 0: 4. At most 64.
	Parallel int
	// TempDir is the directory for large files on stores that ignore conditions of
	// CompleteMultipartUpload. "": os.TempDir().
	TempDir string
	// ReadOnly opens the bucket for reading, without a probe: no object is written.
	// Writes fail with [errors.ErrUnsupported].
	ReadOnly bool

	// UnsafeNoConditions accepts a store that ignores conditional writes. Each write then
	// reads first and sends no condition, so it is safe for one publisher at a time only.
	UnsafeNoConditions bool
	// UnsafePlainHTTP permits an endpoint with http: on other machines than this one.
	// The network can then read and change what is written.
	UnsafePlainHTTP bool
}

// Bucket is a storage in a bucket. It implements [storage.Storage], [storage.Source],
// [storage.Lister], [storage.Remover], [storage.Copier] and [storage.Cleaner], and needs no closing. The
// methods are safe for concurrent use, also by other processes.
type Bucket struct {
	client *s3.Client
	bucket string
	prefix string // "" or with a slash at its end
	opt    Options
	pages  int32 // keys of one listing request
	part   int   // bytes; larger files are sent in parts
	span   int64 // bytes that one request copies inside the store

	readMu    sync.Mutex
	lastReads map[string]lastRead

	probing    chan struct{} // held by the goroutine that uses the fields below
	multipart  bool          // conditions of CompleteMultipartUpload are honoured
	multiKnown bool
}

var _ interface {
	storage.Storage
	storage.Source
	storage.Lister
	storage.Remover
	storage.Copier
	storage.Cleaner
} = (*Bucket)(nil)

// Open opens a bucket by its URI:
//
//	s3://bucket/prefix?region=eu-central-1&endpoint=https://s3.example&path-style=true
//
// All parts but the bucket are optional. The default region is that of the SDK's
// configuration, or us-east-1 if there is an endpoint. The endpoint is the address of a
// compatible store, without a path; it must be https, or http on this machine. With
// path-style=true the bucket is in the path of requests, with false in the host name;
// the default is true if there is an endpoint. Every other parameter is an error, and so
// are user names and fragments; such errors wrap [ErrURI].
//
// Open sends up to three requests that check conditional writes, unless opt.ReadOnly or
// opt.UnsafeNoConditions is set. If the store ignores them, the error wraps
// [ErrNoConditions]. The bucket must exist. opt may be nil and is copied.
func Open(ctx context.Context, uri string, opt *Options) (_ *Bucket, err error) {
	defer text.OneLine(&err)
	var o Options
	if opt != nil {
		o = *opt
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if o.Parallel < 0 || o.Parallel > 64 {
		return nil, fmt.Errorf("s3: Options.Parallel is %d, not 0 to 64: %w", o.Parallel, fs.ErrInvalid)
	}
	u, err := parseURI(uri, o.UnsafePlainHTTP)
	if err != nil {
		return nil, fmt.Errorf("s3: %w: %w", ErrURI, err)
	}
	client, err := newClient(ctx, u, &o)
	if err != nil {
		return nil, fmt.Errorf("s3: %s: configuration: %w", u.bucket, err)
	}
	b := &Bucket{client: client, bucket: u.bucket, prefix: u.prefix, opt: o, pages: 1000, part: partSize, span: copySize, probing: make(chan struct{}, 1)}
	if o.ReadOnly || o.UnsafeNoConditions {
		return b, nil
	}
	if err := b.probe(ctx); err != nil {
		return nil, fmt.Errorf("s3: %s: probe: %w", u.bucket, err)
	}
	return b, nil
}

func newClient(ctx context.Context, u *uriParts, o *Options) (*s3.Client, error) {
	load := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})}
	if u.region != "" {
		load = append(load, config.WithRegion(u.region))
	}
	if o.Credentials != nil {
		load = append(load, config.WithCredentialsProvider(o.Credentials))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, explain(err)
	}
	if cfg.Region == "" {
		if u.endpoint == "" {
			return nil, errors.New("no region in the URI or in the environment")
		}
		cfg.Region = "us-east-1"
	}
	return s3.NewFromConfig(cfg, func(s *s3.Options) {
		s.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.ResponseHeaderTimeout = attemptTime
			t.MaxIdleConnsPerHost = 64
		})
		if o.HTTPClient != nil {
			s.HTTPClient = o.HTTPClient
		}
		if u.endpoint != "" {
			s.BaseEndpoint = &u.endpoint
		}
		s.UsePathStyle = u.pathStyle
		// Retries are made here: only then is it known that an earlier attempt may have
		// taken effect.
		s.Retryer = aws.NopRetryer{}
		// Requests carry a sha256 where it counts; other checksums break compatible stores.
		s.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		s.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		s.DisableLogOutputChecksumValidationSkipped = true
	}), nil
}

type uriParts struct {
	bucket, prefix, region, endpoint string
	pathStyle                        bool
}

var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	regionName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
)

// parseURI never includes the URI or one of its parts in an error.
func parseURI(uri string, plainHTTP bool) (*uriParts, error) {
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return nil, errors.New("not a URI")
	case u.Scheme != "s3" || u.Opaque != "":
		return nil, errors.New("it must begin with s3://")
	case u.User != nil:
		return nil, errors.New("credentials do not belong into the URI")
	case u.Fragment != "" || strings.Contains(uri, "#"):
		return nil, errors.New("it has a fragment")
	case !bucketName.MatchString(u.Host):
		return nil, errors.New("the name of the bucket has characters other than a-z, 0-9, dot and hyphen, or not 3 to 63")
	case strings.Contains(u.EscapedPath(), "%2F") || strings.Contains(u.EscapedPath(), "%2f"):
		return nil, errors.New("the prefix has an escaped slash")
	}
	out := &uriParts{bucket: u.Host}
	if p := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/"); p != "" {
		if storage.CheckName(p) != nil || len(p) > 512 {
			return nil, errors.New("the prefix is no valid name of at most 512 bytes")
		}
		out.prefix = p + "/"
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the parameters are malformed")
	}
	for key, values := range query {
		if len(values) != 1 {
			return nil, errors.New("a parameter occurs twice")
		}
		v := values[0]
		switch key {
		case "region":
			if out.region = v; !regionName.MatchString(v) {
				return nil, errors.New("the region has characters other than a-z, 0-9 and hyphen")
			}
		case "endpoint":
			if out.endpoint, err = parseEndpoint(v, plainHTTP); err != nil {
				return nil, err
			}
		case "path-style":
			if v != "true" && v != "false" {
				return nil, errors.New("path-style is neither true nor false")
			}
		default:
			return nil, errors.New("unknown parameter; there are region, endpoint and path-style")
		}
	}
	out.pathStyle = out.endpoint != ""
	if v := query.Get("path-style"); v != "" {
		out.pathStyle = v == "true"
	}
	return out, nil
}

func parseEndpoint(s string, plainHTTP bool) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return "", errors.New("the endpoint is not an https address without user, path and parameters")
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Scheme == "http" && !plainHTTP && u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		return "", errors.New("an endpoint on another machine needs https")
	}
	return strings.TrimSuffix(s, "/"), nil
}

// probeKey is an empty object that exists in every bucket with a publisher. It stays
// there, so that later probes need two requests.
const probeKey = ".visum/probe"

// refused reports whether err shows that the store evaluates conditions.
func refused(err error) bool {
	var unknown hideConflict
	return errors.Is(err, errLost) || errors.As(err, &unknown) && answered(unknown.err, http.StatusPreconditionFailed)
}

// probe checks that the store refuses writes whose condition does not hold.
func (b *Bucket) probe(ctx context.Context) error {
	write := func(c condition) (bool, error) {
		err := b.put(ctx, probeKey, bytesContent(nil), c)
		if refused(err) {
			return true, nil
		}
		return false, err
	}
	held := false
	var err error
	for range 2 { // the first one may create the object
		if held, err = write(ifAbsent); held || err != nil {
			break
		}
	}
	if err == nil && held {
		// The ETag of no object.
		held, err = write(condition{etag: `"00000000000000000000000000000000"`})
	}
	if err == nil && !held {
		err = ErrNoConditions
	}
	return err
}
